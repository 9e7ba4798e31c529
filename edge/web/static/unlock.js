// The pad: each key adds its digit, so that the PIN can be given with gloves; a keyboard writes by itself.
"use strict";

const pin = document.getElementById("pin");

document.querySelector(".pad").addEventListener("click", (event) => {
  const digit = event.target.dataset.digit;
  if (digit && pin.value.length < pin.maxLength) pin.value += digit;
  if (event.target.id === "clear") pin.value = "";
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") location.assign(document.getElementById("back").href);
});

document.documentElement.classList.add("live");
