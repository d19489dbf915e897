"""`asr lm`, from texts to models and back."""

from __future__ import annotations

import json
import re

import pytest

from asr.cli import main

PETS = "The cat sat.\nThe dog sat on the cat!\nA cat ate 2 fish.\n"
FOOD = "The fish was good.\nA good cake\nWe ate the cake.\n"


@pytest.fixture
def run(capsys):
    def run(*arguments) -> str:
        """Standard output of a call that succeeds."""
        with pytest.raises(SystemExit) as left:
            main(["lm", *map(str, arguments)])
        output, error = capsys.readouterr()
        assert not left.value.code, error
        return output

    return run


@pytest.fixture
def fail(capsys):
    def fail(*arguments) -> str:
        """What a call that fails complains of."""
        with pytest.raises(SystemExit) as left:
            main(["lm", *map(str, arguments)])
        assert left.value.code
        return capsys.readouterr().err

    return fail


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "pets.txt").write_text(PETS)
    lines = "".join(json.dumps({"text": line}) + "\n" for line in FOOD.splitlines())
    (tmp_path / "food.jsonl").write_text(lines)
    return tmp_path / "pets.txt", tmp_path / "food.jsonl"


def _perplexity(output: str) -> float:
    return float(re.search(r"perplexity ([\d.]+)", output)[1])


@pytest.mark.parametrize("name", ["lm.bin", "lm.arpa", "lm.arpa.gz"])
def test_train_and_score(run, texts, tmp_path, name):
    run("train", *texts, "--order", 3, "--output", tmp_path / name)
    output = run("score", tmp_path / name, texts[0])
    assert 1 < _perplexity(output) < 10
    assert "0.00 % of 14 words unknown, 3 sentences" in output
    assert (
        run("score", tmp_path / name, texts[0], "--sentences")
        .splitlines()[0]
        .endswith("\tthe cat sat")
    )


def test_text_is_normalised_unless_told_otherwise(run, texts, tmp_path):
    run("train", texts[0], "--order", 2, "--output", tmp_path / "a.arpa")
    assert "\tate two\t" in (tmp_path / "a.arpa").read_text().replace("\n", "\t\n")
    run("train", texts[0], "--order", 2, "--no-normalize", "--output", tmp_path / "b.arpa")
    assert "\tThe cat\n" in (tmp_path / "b.arpa").read_text()


def test_the_vocabulary_can_be_chosen(run, texts, tmp_path):
    words = tmp_path / "dictionary"
    words.write_text("zebra Z IY B R AH\nzebra(2) Z EH B R AH\ncafé\n")
    options = ["--min-count", 2, "--words", words, "--alphabet", "abcdefghijklmnopqrstuvwxyz"]
    run("train", *texts, *options, "--order", 1, "--output", tmp_path / "lm.arpa")
    listed = (tmp_path / "lm.arpa").read_text().split("\\1-grams:")[1].split()[1::2]
    assert "zebra" in listed
    assert "cat" in listed
    assert not {"dog", "zebra(2)", "café"} & {*listed}
    words.write_text("cat K AE T\nzebra Z IY B R AH\n")
    run("train", *texts, "--among", words, "--order", 1, "--output", tmp_path / "few.arpa")
    listed = (tmp_path / "few.arpa").read_text().split("\\1-grams:")[1].split()[1::2]
    assert "cat" in listed
    assert not {"the", "zebra"} & {*listed}


def test_mixing_suits_the_text(run, texts, tmp_path, capsys):
    options = ["--order", 2, "--output"]
    run("train", *texts, *options, tmp_path / "pooled.bin")
    run("train", *texts, "--mix", texts[1], *options, tmp_path / "mixed.bin")
    pooled, mixed = (
        _perplexity(run("score", tmp_path / name, texts[1])) for name in ("pooled.bin", "mixed.bin")
    )
    assert mixed < pooled
    for text, name in zip(texts, ("pets.arpa", "food.arpa"), strict=True):
        run("train", text, *options, tmp_path / name)
    models = [tmp_path / "pets.arpa", tmp_path / "food.arpa"]
    run("mix", *models, "--dev", texts[1], "--output", tmp_path / "again.bin")
    assert _perplexity(run("score", tmp_path / "again.bin", texts[1])) < pooled


def test_convert_and_prune(run, texts, tmp_path):
    run("train", *texts, "--order", 3, "--output", tmp_path / "lm.arpa")
    run("convert", tmp_path / "lm.arpa", tmp_path / "lm.bin")
    run("convert", tmp_path / "lm.bin", tmp_path / "again.arpa")
    assert (tmp_path / "again.arpa").read_text().count("\n") == (
        (tmp_path / "lm.arpa").read_text().count("\n")
    )
    run("convert", tmp_path / "lm.bin", tmp_path / "small.bin", "--entropy", 0.01)
    grams = [
        re.findall(r"-grams +(\d+)", run("info", tmp_path / f"{n}.bin")) for n in ("lm", "small")
    ]
    assert grams[0][0] == grams[1][0]
    assert 0 < int(grams[1][1]) < int(grams[0][1])


def test_info(run, texts, tmp_path):
    run("train", texts[0], "--order", 2, "--output", tmp_path / "lm.bin")
    output = run("info", tmp_path / "lm.bin")
    assert "order       2" in output
    assert "vocabulary  12 words" in output
    assert "1-grams     12" in output


def test_what_is_wrong_is_said(fail, texts, tmp_path):
    output = tmp_path / "lm.bin"
    assert "missing.txt: cannot be read" in fail("train", tmp_path / "missing.txt", "-o", output)
    (tmp_path / "empty.txt").write_text("\n")
    assert "no sentence" in fail("train", tmp_path / "empty.txt", "-o", output)
    assert "0,0,x" in fail("train", texts[0], "--prune", "0,0,x", "-o", output)
    assert "thresholds" in fail("train", texts[0], "--prune", "2", "-o", output)
    assert "is it an ARPA file?" in fail("score", texts[0], texts[0])
    assert not output.exists()


def test_a_recurrent_model_is_exported_compared_and_writes(run, texts, tmp_path):
    pytest.importorskip("torch")
    from asr.cli.train import compose
    from asr.train.text import make_language_trainer

    overrides = ["task=language_model", f"data.train=[{texts[0]}]", f"data.dev=[{texts[0]}]"]
    overrides += ["data.units=words", "model.hidden_size=8", "model.embedding=4"]
    overrides += ["model.projection=4", "trainer.steps=2", f"run={tmp_path / 'run'}"]
    make_language_trainer(compose(overrides)).fit()
    run("export", tmp_path / "run", tmp_path / "rnn.onnx")
    run("train", texts[0], "--order", 2, "--output", tmp_path / "lm.bin")
    lines = run("score", tmp_path / "lm.bin", *texts, "--beside", tmp_path / "rnn.onnx")
    assert [line.split(" on ")[0].rsplit("/")[-1] for line in lines.splitlines()] == [
        "lm.bin",
        "rnn.onnx",
        "lm.bin",
        "rnn.onnx",
    ]
    assert "vocabulary" in run("info", tmp_path / "rnn.onnx")
    options = ["--seed", 1, "--prompt", "The cat", "--count", 2]
    written = run("sample", tmp_path / "rnn.onnx", *options).splitlines()
    assert len(written) == 2
    assert all(line.startswith("the cat") for line in written)
