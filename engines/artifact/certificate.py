"""The certificate of an engine: its measured accuracy on one network, stored in the manifest."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from mlzsl.cli.json_decoding import Count, Finite, Line, Sha256


class Measurement(Struct, frozen=True, forbid_unknown_fields=True):
    """One number and its tolerance.

    Attributes:
        name: what was measured, such as "largest difference".
        value: the number.
        unit: "%", "points" (hundredths of mAP), or empty.
        at_most, at_least: the tolerance; None for both where the number is only reported.
    """

    name: Line
    value: Finite
    unit: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,80}\Z", description="a unit")] = ""
    at_most: Finite | None = None
    at_least: Finite | None = None

    @property
    def has_tolerance(self) -> bool:
        """Whether there is a tolerance."""
        return self.at_most is not None or self.at_least is not None

    @property
    def passed(self) -> bool:
        """Whether the value is within its tolerance; NaN is not."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


class Check(Struct, frozen=True, forbid_unknown_fields=True):
    """The measurements on one set of photos.

    Attributes:
        name: such as "golden sample" or "photos".
        photos: number of photos.
        data_sha256: of the images, uint8 RGB, one after the other, and of their labels where they are used.
        measurements: in display order.
    """

    name: Line
    photos: Count
    data_sha256: Sha256
    measurements: Annotated[tuple[Measurement, ...], Meta(max_length=64)]

    @property
    def passed(self) -> bool:
        """Whether every measurement is within its tolerance."""
        return all(measurement.passed for measurement in self.measurements)

    def value(self, name: str) -> float | None:
        """The value of a measurement by name, None where there is none."""
        return next((found.value for found in self.measurements if found.name == name), None)


class Certificate(Struct, frozen=True, forbid_unknown_fields=True):
    """The statement that an engine is within its tolerances on a network.

    Attributes:
        network_sha256: of the network that ran.
        backend, version, provider, device, precision: of the engine, as in `engine.ExecutionInfo`.
        reference: what its scores were compared with.
        reference_sha256: of the golden sample, the checkpoint, or the network of the fp32 model file.
        checks: the measurements, all within their tolerances.
        mlzsl: the version that measured.
        machine: a description of the computer.
        made: time of the measurement, UTC, ISO 8601.
    """

    network_sha256: Sha256
    backend: Line
    version: Line
    provider: Line
    device: Line
    precision: Line
    reference: Line
    reference_sha256: Sha256
    checks: Annotated[tuple[Check, ...], Meta(max_length=16)]
    mlzsl: Line
    machine: Line
    made: Line

    def __post_init__(self) -> None:
        for failed in (found for check in self.checks for found in check.measurements if not found.passed):
            raise ValueError(f"its {failed.name} is {failed.value:g}, outside its tolerance")

    @property
    def engine(self) -> tuple[str, str, str]:
        """Backend, provider, precision: a network has one certificate for each."""
        return self.backend, self.provider, self.precision

    @property
    def photos(self) -> int:
        """The number of photos of the largest check."""
        return max((check.photos for check in self.checks), default=0)

    def to_json(self) -> dict[str, Any]:
        """The certificate as a JSON object."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        return record
