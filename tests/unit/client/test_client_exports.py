"""What the package exports is a promise: a change of this list is a change of the API."""

import inspect

import lyra_adapters
from lyra_adapters import AdapterClient, AsyncAdapterClient, AsyncEventStream, EventStream

EXPORTED = """
Aborted Activation AdapterClient AdapterError AdapterFormat AdapterStatus AdapterVersion AlreadyExists
AsyncAdapterClient AsyncChangeStream AsyncEventStream BaseModelIdentity BaseModelState BaseModelStatus Calibration
CallCancelled Cancelled Candidate ChangeStream Checkpointed Classification Classifications Comparison ConflictPolicy
Confusion ConfusionRow DataLoss DeadlineExceeded DeletedFeedback DeletedVersion Downloaded Evaluation EvaluationStage
Event EventStream Failed FailedPrecondition FeedbackCount FeedbackReceipt FeedbackSource FeedbackSummary
FieldViolation FileInfo Heartbeat Interval InvalidArgument Job JobState Label LearntCorrections LoraConfig Metrics
NotDue NotFound OutOfRange Page Pair PermissionDenied PointerChange PointerChangeKind PointerMove Probabilities
Progress Published Queued Reconnect ReconnectPolicy RecordedReview Report ReportRow ResourceExhausted Resumed Review
Sample ServerFault ServiceStatus Started Succeeded TrainEvent TrainingCancelled TrainingConfig TrainingDue
TrainingFailed TriggerPolicy Unauthenticated Unavailable Unimplemented Unknown Verdict VerdictOutcome VersionState
Warning __version__
"""


def test_exported_names_are_these() -> None:
    assert sorted(lyra_adapters.__all__) == sorted(EXPORTED.split())
    assert all(hasattr(lyra_adapters, name) for name in lyra_adapters.__all__)


def public(kind: type) -> dict[str, object]:
    return {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}


def parameters(member: object) -> list[str]:
    if not callable(member):
        return [type(member).__name__]
    return [str(p).split(":")[0] + repr(p.default) + str(p.kind) for p in inspect.signature(member).parameters.values()]


def test_both_clients_have_the_same_surface() -> None:
    for ours, theirs in ((AdapterClient, AsyncAdapterClient), (EventStream, AsyncEventStream)):
        sync, aio = public(ours), public(theirs)
        assert sorted(sync) == sorted(aio)
        for name in sync:
            assert parameters(sync[name]) == parameters(aio[name]), name
    assert parameters(AdapterClient) == parameters(AsyncAdapterClient)


def test_the_surface_is_this() -> None:
    methods = """
        activate cancel classify close delete_feedback delete_version download feedback feedback_summary job
        jobs list list_feedback list_jobs record_feedback report rollback status target train versions wait watch
        watch_adapter
    """
    assert sorted(public(AdapterClient)) == sorted(methods.split())


def test_every_field_of_a_training_request_can_be_given() -> None:
    from lyra_adapters.v1 import adapter_service_pb2 as pb

    fields = {field.name for field in pb.TrainRequest.DESCRIPTOR.fields}
    assert fields <= set(inspect.signature(AdapterClient.train).parameters)
