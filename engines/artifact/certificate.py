"""The certificate: what an engine was found to be worth on one network, measured against its reference.

It stands in the manifest, sealed with it, so it travels with the network; the network's bytes do not change.
"""

from dataclasses import asdict, dataclass
from typing import Any

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.jsonfields import (
    UnfitError,
    count_of,
    exactly,
    list_of,
    number_of,
    object_of,
    sha256_of,
    shown,
    text_of,
)

MOST_CERTIFICATES, MOST_CHECKS, MOST_MEASUREMENTS = 64, 16, 64


@dataclass(frozen=True)
class Measurement:
    """One number, and the limit that it was held against.

    Attributes:
        name: what was measured, such as "largest difference".
        value: the number.
        unit: "%", "points" (hundredths of mAP), or nothing.
        at_most, at_least: the limit, None where there is none: then the number is only reported.
    """

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def limited(self) -> bool:
        return self.at_most is not None or self.at_least is not None

    @property
    def passed(self) -> bool:
        """NaN passes no limit."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


@dataclass(frozen=True)
class Check:
    """What was measured on one set of pictures.

    Attributes:
        name: such as "golden sample" or "photos".
        photos: how many pictures.
        data_sha256: of the pictures as the network takes them, uint8 RGB, one after the other, and of their labels
            where labels count.
        measurements: in the order in which they are shown.
    """

    name: str
    photos: int
    data_sha256: str
    measurements: tuple[Measurement, ...]

    @property
    def passed(self) -> bool:
        return all(measurement.passed for measurement in self.measurements)

    def value(self, name: str) -> float | None:
        """A measurement by name, None where it was not made."""
        return next((found.value for found in self.measurements if found.name == name), None)


@dataclass(frozen=True)
class Certificate:
    """The statement that an engine stayed within limits on a network.

    Attributes:
        network_sha256: of the network that ran.
        backend, version, provider, device, precision: what ran it, as `engine.ExecutionInfo` tells.
        reference: what its scores were compared with.
        reference_sha256: of that: the golden sample, the checkpoint, or the network of the fp32 model file.
        checks: what was measured, with limits.
        mlzsl: the version that measured.
        machine: where, in words.
        made: when, UTC, ISO 8601.
    """

    network_sha256: str
    backend: str
    version: str
    provider: str
    device: str
    precision: str
    reference: str
    reference_sha256: str
    checks: tuple[Check, ...]
    mlzsl: str
    machine: str
    made: str

    @property
    def engine(self) -> tuple[str, str, str]:
        """Backend, provider, precision: a network has one certificate for each."""
        return self.backend, self.provider, self.precision

    @property
    def photos(self) -> int:
        """The pictures of the largest set that was compared."""
        return max((check.photos for check in self.checks), default=0)

    def check_network(self, network_sha256: str, where: str) -> None:
        """Refuse to stand in the manifest of another network than the one that was measured.

        Raises:
            FailureError: `network_sha256` is not the certified network's; the sentence begins with `where`.
        """
        if network_sha256 != self.network_sha256:
            raise FailureError(f"{where}: was replaced by another network while it was verified; verify it again.")

    def to_json(self) -> dict[str, Any]:
        """The certificate as a JSON object; `from_json` reads it back equal."""
        return asdict(self)

    @classmethod
    def from_json(cls, where: str, value: object) -> "Certificate":
        """Read a certificate that anybody may have written.

        Args:
            where: its place, for messages, such as "certificates[0]".
            value: parsed JSON.

        Raises:
            UnfitError: a field is missing, unknown or of the wrong kind, or a measurement is beyond its limit.
        """
        fields = object_of(where, value)
        exactly(where, fields, cls)
        checks = list_of(f"{where}.checks", fields["checks"], MOST_CHECKS)
        texts = ("backend", "version", "provider", "device", "precision", "reference", "mlzsl", "machine", "made")
        return cls(
            network_sha256=sha256_of(f"{where}.network_sha256", fields["network_sha256"]),
            reference_sha256=sha256_of(f"{where}.reference_sha256", fields["reference_sha256"]),
            checks=tuple(_check(f"{where}.checks[{place}]", check) for place, check in enumerate(checks)),
            **{name: text_of(f"{where}.{name}", fields[name]) for name in texts},
        )


def read_certificates(value: object) -> tuple[Certificate, ...]:
    """Read the certificates of a manifest.

    Raises:
        UnfitError: as `Certificate.from_json`, or there are two for one engine and network.
    """
    entries = list_of("certificates", value, MOST_CERTIFICATES)
    certificates = tuple(Certificate.from_json(f"certificates[{place}]", entry) for place, entry in enumerate(entries))
    if len({(certificate.network_sha256, certificate.engine) for certificate in certificates}) < len(certificates):
        raise UnfitError("certificates has two for one engine")
    return certificates


def _check(where: str, value: object) -> Check:
    fields = object_of(where, value)
    exactly(where, fields, Check)
    measurements = list_of(f"{where}.measurements", fields["measurements"], MOST_MEASUREMENTS)
    return Check(
        name=text_of(f"{where}.name", fields["name"]),
        photos=count_of(f"{where}.photos", fields["photos"]),
        data_sha256=sha256_of(f"{where}.data_sha256", fields["data_sha256"]),
        measurements=tuple(
            _measurement(f"{where}.measurements[{place}]", entry) for place, entry in enumerate(measurements)
        ),
    )


def _measurement(where: str, value: object) -> Measurement:
    fields = object_of(where, value)
    exactly(where, fields, Measurement)

    def limit(name: str) -> float | None:
        return None if fields[name] is None else number_of(f"{where}.{name}", fields[name])

    measurement = Measurement(
        name=text_of(f"{where}.name", fields["name"]),
        value=number_of(f"{where}.value", fields["value"]),
        unit=text_of(f"{where}.unit", fields["unit"]) if fields["unit"] != "" else "",
        at_most=limit("at_most"),
        at_least=limit("at_least"),
    )
    if not measurement.passed:
        raise UnfitError(f"{where}.value is {shown(measurement.value)}, beyond its own limit")
    return measurement
