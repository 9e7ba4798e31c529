// The two dialogs: settings, and a question before something is destroyed.

import { h, LANGUAGES, t } from "./dom.js";

const NAME = "[a-z0-9]([a-z0-9\\-]{0,62}[a-z0-9])?"; // edge/schema.py
const NAMES = { en: "English", es: "Español", fr: "Français", ar: "العربية", zh: "中文" };

/** Ask for the settings; resolves to those given, or null if nothing is to change. */
export function askSettings(settings, language, { about, forgetAll }) {
  const dialog = document.getElementById("settings");
  const field = (name, attributes) =>
    h("label", {}, h("span", {}, t(`phone.${name}`)), h("input", { name, value: settings[name] ?? "", autocomplete: "off", ...attributes }));
  const plain = { autocapitalize: "none", spellcheck: "false" };
  const form = h(
    "form",
    { method: "dialog" },
    h("h1", {}, t("phone.settings")),
    h(
      "label",
      {},
      h("span", {}, t("phone.language")),
      h("select", { name: "language" }, LANGUAGES.map((code) => h("option", { value: code, selected: code === language, lang: code }, NAMES[code]))),
    ),
    field("site", { ...plain, required: true, pattern: NAME, title: t("phone.name_rule") }),
    field("device", { ...plain, required: true, pattern: NAME, title: t("phone.name_rule") }),
    field("broker", { ...plain, inputmode: "url", placeholder: "wss://…" }),
    field("username", plain),
    field("password", { type: "password" }),
    h("label", { class: "check" }, h("input", { name: "receipts", type: "checkbox", checked: Boolean(settings.receipts) }), h("span", {}, t("phone.receipts"))),
    h("p", { class: "problem", role: "alert" }),
    h("p", { class: "bar" }, h("button", { value: "cancel", formnovalidate: true }, t("phone.close")), h("button", { value: "save", id: "save", class: "first" }, t("phone.save"))),
    h("p", { class: "bar" }, h("button", { type: "button", id: "delete-all", onclick: forgetAll }, t("phone.delete_all"))),
    h("p", { class: "note about", dir: "auto" }, about),
  );
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value !== "save" || isBroker(form.elements.broker.value.trim())) return;
    event.preventDefault();
    form.querySelector(".problem").textContent = t("phone.broker_rule");
  });
  dialog.replaceChildren(form);
  return closed(dialog).then((answer) => {
    if (answer !== "save") return null;
    const given = Object.fromEntries(["language", "site", "device", "broker", "username"].map((name) => [name, form.elements[name].value.trim()]));
    return { ...given, password: form.elements.password.value, receipts: form.elements.receipts.checked };
  });
}

/** Whether the person really wants it. */
export async function confirm(text, yes) {
  const dialog = document.getElementById("question");
  dialog.replaceChildren(
    h(
      "form",
      { method: "dialog" },
      h("p", {}, text),
      h("p", { class: "bar" }, h("button", { value: "no" }, t("phone.keep")), h("button", { value: "yes", id: "yes", class: "danger" }, yes)),
    ),
  );
  return (await closed(dialog)) === "yes";
}

/* Nothing, or a broker that is spoken to through TLS; on this machine itself it may be without. */
function isBroker(text) {
  if (text === "") return true;
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  return protocol === "wss:" || (protocol === "ws:" && ["localhost", "127.0.0.1"].includes(hostname));
}

function closed(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}
