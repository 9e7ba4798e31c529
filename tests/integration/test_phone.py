"""The phone app in Chromium: what a person sees, with and without server, camera and room."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from own_certificate import OwnCertificate
from phone_app import SIZE, Phone, Server

from edge.bundle.archive import Bundle, open_bundle
from edge.bundle.golden import Golden
from edge.imaging.decode import decode_file
from edge.inference.decision import decide
from edge.inference.predictor import Predictor
from edge.mqtt.payloads import Finding
from edge.phone.app import write_app
from edge.web.catalogue import languages, load_texts
from tests.integration.conftest import wait_for
from trainer.data.phantoms import generate
from trainer.demo.build import SHIPPED

pytestmark = pytest.mark.integration
TEXTS = load_texts("en")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """PNG files of unseen phantoms, each with its truth."""
    folder = tmp_path_factory.mktemp("pictures")
    phantoms = generate("chest", 4, 1907, 300)
    found = []
    for index, (pixels, truth) in enumerate(zip(phantoms.images, phantoms.truth, strict=True)):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), pixels)
        found.append((path, phantoms.labels[truth]))
    return found


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(SHIPPED)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, shipped: Bundle) -> Path:
    return write_app(shipped, tmp_path_factory.mktemp("app"))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(folder: Path, tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(folder, tls))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def phone(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Phone]]:
    """``phone(*arguments, **options)``: a new phone."""
    phones: list[Phone] = []

    def make(*arguments: str, **options: Any) -> Phone:
        phones.append(Phone(chromium, tmp_path / f"profile-{len(phones)}", *arguments, **options))
        return phones[-1]

    yield make
    for one in phones:
        one.close()


def test_it_works_with_the_server_gone_and_the_browser_restarted(phone, serve, app, pictures) -> None:
    server, it = serve(app), phone()
    it.visit(server.url)
    it.kept_offline()
    server.stop()
    it.close()
    it.open()
    it.visit(server.url)
    path, truth = pictures[1]
    it.give(path)
    assert it.texts(".result h1") == [truth]
    assert {url.split("/")[2] for url in it.requests if not url.startswith("blob:")} == {
        f"localhost:{server.port}"
    }
    assert not it.complaints
    server.start()


def test_while_it_is_busy_nothing_else_can_be_asked_of_it(phone, serve, app, pictures) -> None:
    it = phone()
    it.visit(serve(app).url)
    it.page.evaluate(
        """() => {
          const controls = ['top', 'banners', 'studies', 'actions'].map((id) => document.getElementById(id));
          window.frozen = [];
          const { documentElement } = document;
          new MutationObserver(() => {
            if (documentElement.dataset.state === 'working') window.frozen = controls.map((c) => c.inert);
          }).observe(documentElement, { attributes: true });
        }"""
    )
    it.give(pictures[0][0])
    assert it.page.evaluate("window.frozen") == [True] * 4
    assert it.page.locator("[inert]").count() == 0
    it.page.click("#open-settings")


def test_it_decides_as_a_cart_does_and_says_it_in_the_same_words(
    phone, serve, app, shipped, pictures
) -> None:
    it = phone()
    it.visit(serve(app).url)
    predictor = Predictor(shipped)
    for path, _ in pictures:
        it.give(path)
        (frame,) = decode_file(path, "file")
        prediction = predictor.predict(frame)
        outcome = decide(prediction, shipped.manifest, predictor.ood)
        found = Finding.model_validate_json(json.dumps(it.kept("results")[-1]["finding"]))
        assert (found.decision, found.label, found.reasons) == (
            outcome.decision,
            outcome.label,
            outcome.reasons,
        )
        # Not one step of the int8 outputs apart: the probabilities would differ by more.
        assert found.probabilities == pytest.approx(outcome.probabilities, rel=1e-6)
        assert found.thresholds == outcome.thresholds
        assert found.evidence.quality == pytest.approx(prediction.quality, rel=1e-9)
        assert found.evidence.ood_score == pytest.approx(outcome.ood_score, rel=1e-4)
        assert found.bundle.sha256 == shipped.sha256
    assert len(it.texts(".study")) == len(pictures)


def test_the_same_int8_inputs_give_the_same_outputs_on_500_images(
    phone, serve, shipped, pictures, tmp_path
) -> None:
    predictor = Predictor(shipped)
    random = np.random.default_rng(5)
    spec = next(one for one in shipped.manifest.outputs if one.name == "logits")
    seen = [cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (120, 120)) for path, _ in pictures]
    images = []
    for index in range(500):  # cut out anywhere, mirrored, in other light, with noise
        row, column = random.integers(0, 24, 2)
        cut = seen[index % len(seen)][row : row + 96, column : column + 96][:: random.choice([-1, 1])]
        light = cut * random.uniform(0.5, 1.5) + random.normal(0, random.uniform(0, 40), cut.shape)
        images.append(np.clip(light, 0, 255).astype(np.uint8))
    inputs = np.concatenate([predictor.prepare(pixels) for pixels in images])
    outputs = np.concatenate([predictor.engine.run(one[np.newaxis])[spec.index] for one in inputs])
    assert len(inputs) == 500 and len(np.unique(outputs, axis=0)) > 300
    folder = changed(shipped, tmp_path, {"golden.npz": Golden(inputs, outputs, "here", 0).to_npz()})
    it = phone()
    it.visit(serve(folder).url)  # the self-test at the start refuses any difference
    it.page.click("#open-settings")
    assert "self-test passed, 0 steps off" in it.texts(".about")[0]


def test_a_phone_that_computes_otherwise_gives_no_results(phone, serve, shipped, tmp_path) -> None:
    golden = Golden.from_npz(shipped.member("golden.npz"))
    wrong = Golden(golden.inputs, np.roll(golden.outputs, 1, axis=1), golden.kernel, golden.tolerance)
    it = phone()
    it.visit(serve(changed(shipped, tmp_path, {"golden.npz": wrong.to_npz()})).url, "failed")
    assert it.texts("main h1") == [TEXTS["phone.model_refused"]]
    assert not it.page.locator("#actions button").count()


def test_a_damaged_model_is_fetched_again_or_nothing_is_said_with_it(phone, serve, app, pictures) -> None:
    server, it = serve(app), phone()
    it.visit(server.url)
    it.kept_offline()
    it.page.evaluate(_DAMAGE)
    it.visit(server.url)  # the server has it
    it.give(pictures[0][0])
    it.page.evaluate(_DAMAGE)
    server.stop()
    it.visit(server.url, "failed")
    assert it.texts("main h1") == [TEXTS["phone.model_damaged"]]
    server.start()
    it.visit(server.url)


_DAMAGE = """async () => {
  for (const name of await caches.keys()) {
    const cache = await caches.open(name);
    const bytes = new Uint8Array(await (await cache.match('model/model.tflite')).arrayBuffer());
    bytes[bytes.length >> 1] ^= 1;
    await cache.put('model/model.tflite', new Response(bytes));
  }
}"""


def test_a_photo_of_something_else_gets_no_result_and_the_reasons(phone, serve, app, tmp_path) -> None:
    it = phone()
    it.visit(serve(app).url)
    it.give(cat(tmp_path / "cat.jpg"))
    assert it.texts(".decision span") == [TEXTS["decision.no_result"]]
    reasons = it.texts(".reason")
    assert TEXTS["reason.unexpected_colour"] in reasons and TEXTS["reason.out_of_distribution"] in reasons
    assert not it.page.locator(".probability, .labels, #heat").count()


def cat(path: Path) -> Path:
    """Something like one: two ears, two eyes, fur and a sofa, in colour."""
    random = np.random.default_rng(9)
    picture = np.full((480, 640, 3), (60, 110, 200), np.uint8)
    cv2.circle(picture, (320, 260), 140, (40, 130, 220), -1)
    for x in (230, 410):
        triangle = np.array([[x - 50, 170], [x + 50, 170], [x, 60]])
        cv2.fillPoly(picture, [triangle], (40, 130, 220))
        cv2.ellipse(picture, (x + (320 - x) // 3, 240), (26, 34), 0, 0, 360, (60, 200, 120), -1)
    fur = random.normal(0, 18, picture.shape)
    cv2.imwrite(str(path), np.clip(picture + fur, 0, 255).astype(np.uint8))
    return path


def test_a_file_that_is_no_picture_is_no_result_and_told_as_unreadable(phone, serve, app, tmp_path) -> None:
    it = phone()
    it.visit(serve(app).url)
    path = tmp_path / "letter.png"
    path.write_text("Dear colleague")
    it.give(path)
    assert it.texts(".reason") == [TEXTS["reason.unreadable"]]
    found = Finding.model_validate_json(json.dumps(it.kept("results")[0]["finding"]))
    assert found.decision == "no_result"


def test_the_same_picture_is_one_result(phone, serve, app, pictures) -> None:
    it = phone()
    it.visit(serve(app).url)
    for _ in range(2):
        it.give(pictures[0][0])
    assert len(it.kept("results")) == 1


def test_results_can_be_deleted_one_and_all_and_stay_away(phone, serve, app, pictures) -> None:
    server, it = serve(app), phone()
    it.visit(server.url)
    for path, _ in pictures[:3]:
        it.give(path)
    it.page.click("#delete")
    it.page.click("#yes")
    it.wait("ready")
    assert len(it.texts(".study")) == 2
    it.page.click("#open-settings")
    it.page.click("#delete-all")
    it.page.click("#yes")
    it.page.wait_for_selector("#studies .none")
    it.visit(server.url)
    assert it.kept("results") == []


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((), "phone.no_camera"),
        (("--use-fake-device-for-media-stream", "--deny-permission-prompts"), "phone.camera_denied"),
    ],
)
def test_without_a_camera_it_says_so_and_files_can_be_opened(
    phone, serve, app, pictures, arguments, key
) -> None:
    it = phone(*arguments)
    it.visit(serve(app).url)
    it.page.click("#camera")
    it.wait("camera-failed")
    assert (it.texts("main h1"), it.texts("main p")) == ([TEXTS[key]], [TEXTS[f"{key}_do"]])
    it.give(pictures[0][0])


def test_the_camera_gives_a_result(phone, serve, app, pictures, tmp_path) -> None:
    clip = y4m(tmp_path / "camera.y4m", cv2.imread(str(pictures[1][0]), cv2.IMREAD_GRAYSCALE))
    it = phone(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    )
    it.visit(serve(app).url)
    it.page.click("#camera")
    it.page.click("#shoot")
    it.wait("result")
    found = it.kept("results")[0]["finding"]
    assert found["source"] == "camera"
    assert it.texts(".result h1") == [pictures[1][1]]


def test_a_video_is_judged_frame_by_frame(phone, serve, app, pictures, tmp_path) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed: apt-get install ffmpeg")
    video = tmp_path / "clip.webm"
    command = ["ffmpeg", "-loglevel", "error", "-loop", "1", "-i", str(pictures[1][0]), "-t", "1", "-r", "10"]
    subprocess.run([*command, "-c:v", "libvpx", "-b:v", "2M", str(video)], check=True, timeout=60)
    it = phone()
    it.visit(serve(app).url)
    it.give(video)
    found = [kept["finding"] for kept in it.kept("results")]
    assert len(found) >= 5 and len({one["study"] for one in found}) == 1
    decided = [one["label"] for one in found if one["decision"] != "no_result"]
    assert len(decided) >= 0.8 * len(found) and set(decided) == {pictures[1][1]}


def y4m(path: Path, gray: np.ndarray) -> Path:
    """A camera that looks at a picture on a light box, of the picture's own size."""
    height, width = (side // 2 * 2 for side in gray.shape)
    luma = np.rint(16 + gray[:height, :width] * (219 / 255)).astype(np.uint8)
    chroma = np.full(height * width // 2, 128, np.uint8)
    frame = b"FRAME\n" + luma.tobytes() + chroma.tobytes()
    path.write_bytes(f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420mpeg2\n".encode() + frame * 10)
    return path


def test_a_full_phone_shows_the_result_and_says_that_it_is_not_kept(phone, serve, app, pictures) -> None:
    server, it = serve(app), phone()
    it.visit(server.url)
    it.kept_offline()
    it.close()
    it.open()  # a browser asks anew how much room there is
    it.has_room(server.url, 1000)
    it.visit(server.url)
    path, truth = pictures[1]
    it.give(path)
    assert it.texts(".result h1") == [truth]
    assert it.texts("#banner-storage") == [TEXTS["phone.storage_full"]]
    assert it.kept("results") == it.kept("outbox") == []


def test_where_the_app_finds_no_room_it_says_that_it_needs_the_network(phone, serve, app) -> None:
    server, it = serve(app), phone()
    it.has_room(server.url, 2_000_000)
    it.visit(server.url)
    it.page.wait_for_selector("#banner-full")


def test_a_certificate_that_is_not_trusted_is_explained(phone, serve, app, tmp_path) -> None:
    it = phone()
    with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
        it.page.goto(serve(app, OwnCertificate(tmp_path).context()).url)

    def proceeded() -> bool:
        it.page.keyboard.type("thisisunsafe")  # a person who taps "proceed anyway"
        it.page.wait_for_timeout(300)
        return bool(it.page.locator("#banner-support").count())

    wait_for(proceeded)
    it.page.wait_for_selector("#banner-certificate")
    assert it.texts("#banner-certificate") == [TEXTS["phone.install_certificate"]]


def test_a_new_version_waits_until_it_is_taken(phone, serve, app, shipped, tmp_path, pictures) -> None:
    folder = write_app(shipped, tmp_path)
    server, it = serve(folder), phone()
    it.visit(server.url)
    it.kept_offline()
    changed(shipped, tmp_path, {}, version="9.9.9")
    it.visit(server.url)
    it.page.click("#banner-update button")
    it.page.wait_for_selector("html[data-state=ready] #banners:not(:has(#banner-update))")
    it.give(pictures[0][0])
    assert it.kept("results")[0]["finding"]["bundle"]["version"] == "9.9.9"


def test_a_second_window_leaves_the_first_its_place(phone, serve, app) -> None:
    server, it = serve(app), phone()
    it.visit(server.url)
    other = it.context.new_page()
    other.goto(server.url)
    other.wait_for_selector("html[data-state=failed]")
    assert other.inner_text("main h1") == TEXTS["phone.second_window"]


def test_a_label_is_text_whatever_is_in_it(phone, serve, shipped, tmp_path, pictures) -> None:
    hostile = "<img src=x onerror=document.title='taken'>"
    data = shipped.manifest.model_dump_json().replace('"consolidation"', json.dumps(hostile))
    it = phone()
    it.visit(serve(changed(shipped, tmp_path, {}, text=data)).url)
    it.give(next(path for path, truth in pictures if truth == "consolidation"))
    assert it.texts(".result h1") == [hostile]
    assert it.page.title() == "scanwright"


def test_every_language_fits_a_phone(phone, serve, app, pictures) -> None:
    it = phone()
    it.visit(serve(app).url)
    for language in languages():
        it.page.click("#open-settings")
        it.page.select_option("select[name=language]", language)
        it.page.click("#save")
        it.page.wait_for_selector(f"html[lang={language}][data-state=ready]")
        texts = load_texts(language)
        assert it.page.get_attribute("html", "dir") == texts["direction"]
        it.give(pictures[1][0])
        assert it.texts(".decision span") == [texts["decision.positive"]]
        assert it.page.evaluate("document.documentElement.scrollWidth") <= SIZE["width"]
        boxes = it.page.locator("button:visible").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect()).map(b => [b.width, b.height])"
        )
        assert len(boxes) >= 5
        assert all(width >= 48 and height >= 48 for width, height in boxes)


def changed(bundle: Bundle, out: Path, members: dict[str, bytes], **said: str) -> Path:
    """The app of a bundle with other members or another manifest, as if it had been packaged so."""
    text = said.pop("text", None) or bundle.manifest.model_copy(update=said).model_dump_json()
    replaced = {**members, "manifest.json": text.encode()}
    contents = {name: replaced.get(name, bundle.member(name)) for name in bundle.names}
    manifest = type(bundle.manifest).model_validate_json(text)
    return write_app(
        Bundle(bundle.path, manifest, hashlib.sha256(text.encode()).hexdigest(), 0, contents), out
    )
