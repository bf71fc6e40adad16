"""The contract: names, labels, errors."""

import pytest

from lawfit.errors import RecordError
from lawfit.records import schema


def test_only_inception_features_are_called_fid() -> None:
    assert schema.fd_metric("inception") == schema.FID
    assert schema.fd_metric("tokenizer") == schema.FD_TOKENIZER
    assert schema.fd_metric("dinov2") == "fd/dinov2"


@pytest.mark.parametrize("features", ["", "a b", "a/b", "Upper"])
def test_features_that_are_no_metric_name_are_refused(features: str) -> None:
    with pytest.raises(RecordError, match="no metric name"):
        schema.fd_metric(features)


def test_axes_carry_their_unit() -> None:
    assert schema.column(schema.FLOPS).axis == "Training compute C (FLOPs)"
    assert schema.column(schema.VAL_LOSS).axis.endswith("(nats per token)")
    assert schema.column(schema.FID).axis == "FID"
    assert schema.column("fd/dinov2").label == "Fréchet distance, dinov2 features"


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecordError, match=r"'los' is unknown: .*val/loss"):
        schema.column("los")


def test_names_are_unique() -> None:
    for names in (
        [param.name for param in schema.PARAMS],
        [param.column for param in schema.PARAMS],
        [*(metric.name for metric in schema.METRICS), schema.FLOPS, *schema.TELEMETRY],
        [metric.heading for metric in schema.METRICS if metric.heading],
    ):
        assert len(set(names)) == len(names)
