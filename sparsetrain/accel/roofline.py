"""The roofline model: points and limits, for `estimate --plot` (a chip) and the report (a CPU)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RooflinePoint:
    """One layer and pass: how much it computes per byte, and how fast.

    Attributes:
        label: The name of the layer.
        series: The color of the point in a plot: its pass or its backend.
        macs: Number of multiplications.
        moved_bytes: Bytes that move through the limiting port or memory.
        time: Duration, in the time unit of the roofline.
    """

    label: str
    series: str
    macs: float
    moved_bytes: float
    time: float

    @property
    def intensity(self) -> float:
        """Multiplications per byte."""
        return self.macs / self.moved_bytes

    @property
    def rate(self) -> float:
        """Multiplications per unit of time."""
        return self.macs / self.time


@dataclass(frozen=True)
class Roofline:
    """Points below two limits: the bandwidth at low intensities, the peak rate at high ones.

    Attributes:
        points: The layers and passes.
        bandwidth: Most bytes per unit of time.
        peak: Most multiplications per unit of time.
    """

    points: tuple[RooflinePoint, ...]
    bandwidth: float
    peak: float

    @property
    def ridge(self) -> float:
        """The intensity at which both limits are equal, in multiplications per byte."""
        return self.peak / self.bandwidth

    def limit(self, intensity: float) -> float:
        """The highest possible rate at an intensity."""
        return min(self.peak, self.bandwidth * intensity)

    def limit_line(self) -> tuple[list[float], list[float]]:
        """The intensities and rates of the line of limits, from below to above all points."""
        intensities = [self.ridge / 4, self.ridge * 4]
        intensities += [point.intensity for point in self.points]
        ends = [min(intensities) / 1.2, self.ridge, max(intensities) * 1.2]
        return ends, [self.limit(end) for end in ends]

    def by_series(self) -> dict[str, list[RooflinePoint]]:
        """The points of each series, in the order of their first points."""
        by_name: dict[str, list[RooflinePoint]] = {}
        for point in self.points:
            by_name.setdefault(point.series, []).append(point)
        return by_name
