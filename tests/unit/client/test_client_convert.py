"""Models and messages say the same, field by field."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest
from lyra_adapters import InvalidArgument, Label, LoraConfig, Progress, Sample, TrainEvent, Unknown, models
from lyra_adapters.convert import coerce, decode, decode_event, encode, encode_event
from lyra_adapters.models.base import Model, Word
from lyra_adapters.testing import training_script
from lyra_adapters.v1 import adapter_service_pb2 as pb

# Results that the client composes itself.
OURS = {
    *("TrainEvent", "Page", "PointerMove", "Unknown", "Classifications", "FeedbackReceipt"),
    *("DeletedFeedback", "DeletedVersion", "Report"),
}


def named(base: type) -> list[type]:
    found = [getattr(models, name) for name in models.__all__]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, base)]


@pytest.mark.parametrize("kind", [kind for kind in named(Model) if kind.__name__ not in OURS], ids=lambda k: k.__name__)
def test_a_model_has_the_fields_of_its_message(kind: type) -> None:
    message = getattr(pb, kind.__name__)
    assert {f.name for f in dataclasses.fields(kind)} == {f.name for f in message.DESCRIPTOR.fields}


@pytest.mark.parametrize("kind", named(Word), ids=lambda k: k.__name__)
def test_an_enum_has_the_words_of_its_message(kind: type[Word]) -> None:
    values = pb.DESCRIPTOR.enum_types_by_name[kind.__name__].values
    words = {value.name.removeprefix(kind.prefix()) for value in values}
    # An unknown label is None to Python, not a label.
    assert set(kind.__members__) == words - ({"UNSPECIFIED"} if kind is Label else set())


def test_every_kind_of_event_is_known() -> None:
    for field in pb.TrainEvent.DESCRIPTOR.oneofs_by_name["event"].fields:
        message = pb.TrainEvent(job_id="j", sequence=3)
        getattr(message, field.name).SetInParent()
        assert decode_event(message).kind == field.name


def test_an_event_of_a_newer_server_is_kept_as_unknown() -> None:
    assert decode_event(pb.TrainEvent(job_id="j", sequence=3)).event == Unknown()


def test_events_survive_the_way_there_and_back_and_print_as_json() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    for sequence, event in enumerate(training_script(steps=5), start=1):
        ours = TrainEvent(job_id="j", sequence=sequence, time=time, event=event)
        again = decode_event(pb.TrainEvent.FromString(encode_event(ours).SerializeToString()))
        assert again == ours
        line = json.loads(json.dumps(again.to_dict()))
        assert line["kind"] == ours.kind
        assert ours.kind in line
        assert line["time"] == "2026-01-02T03:04:05.678000Z"


def test_numbers_of_32_bits_print_as_they_were_meant() -> None:
    message = encode(Progress(loss=0.1, learning_rate=5e-4, eta=timedelta(seconds=1.5)))
    progress = decode(Progress, message)
    assert (progress.loss, progress.learning_rate) == (0.1, 5e-4)
    assert progress.to_dict()["eta"] == 1.5


def test_unset_options_stay_unset_and_zero_is_a_value() -> None:
    assert not encode(LoraConfig()).HasField("rank")
    assert encode(LoraConfig(rank=0)).HasField("rank")
    assert decode(LoraConfig, pb.LoraConfig(dropout=0.0)).dropout == 0.0
    assert decode(LoraConfig, pb.LoraConfig()).dropout is None


def test_an_unknown_enum_number_is_unspecified() -> None:
    job = decode(models.Job, pb.Job(state=99))  # type: ignore[arg-type]
    assert job.state is models.JobState.UNSPECIFIED


@pytest.mark.parametrize(
    "word", ["SUPPORTS", "supports", " Supports ", "LABEL_SUPPORTS", "label_supports", "Entailment", "ENTAILS"]
)
def test_labels_are_read_in_any_case(word: str) -> None:
    row = {"premise": "p", "hypothesis": "h", "label": word, "correct_label": "SUPPORTS", "original_label": ""}
    sample = coerce(Sample, row, "samples[0]")
    assert sample.correct_label is Label.SUPPORTS
    assert sample.original_label is None


def test_labels_are_read_in_the_spellings_of_models_and_data_sets() -> None:
    assert {Label(word) for word in ("contradicts", "CONTRADICTION", "Refuted")} == {Label.REFUTES}
    assert {Label(word) for word in ("neutral", "NOT_ENOUGH_INFO", "not enough info")} == {Label.NEUTRAL}
    with pytest.raises(ValueError, match="maybe"):
        Label("maybe")


GOOD = {"premise": "p", "hypothesis": "h", "correct_label": "NEUTRAL"}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({**GOOD, "correct_label": "maybe"}, "samples[7].correct_label"),
        ({**GOOD, "label": "SUPPORTS"}, "samples[7].label"),
        ({**GOOD, "premise": 3}, "samples[7].premise"),
        ({**GOOD, "colour": "red"}, "samples[7].colour"),
        ({**GOOD, "original_confidence": "high"}, "samples[7].original_confidence"),
        ({"premise": "p", "correct_label": "NEUTRAL"}, "samples[7].hypothesis"),
        ("text", "samples[7]"),
    ],
)
def test_a_refused_sample_names_its_field(value: object, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        coerce(Sample, value, "samples[7]")  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field
    assert caught.value.reason == "INVALID_FIELD"
