"""Mel bands of a recording, as librosa computes them (`librosa.feature.melspectrogram`, its defaults).

Hann windows centred on every `hop` samples (zeros beyond the ends), the power of their spectrum, and
triangles on Slaney's mel scale (Auditory Toolbox, 1998), each of equal area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LINEAR_HZ = 200 / 3
"""Hertz a mel, below `BREAK_HZ`; above it mels grow with the logarithm."""
BREAK_HZ = 1000.0
LOG_STEP = np.log(6.4) / 27


def mel_bands(
    samples: NDArray[np.float32], rate: int, window: int, hop: int, bands: int
) -> NDArray[np.float32]:
    """Power in mel bands, (T, bands), T = 1 + len(samples) // hop."""
    padded = np.pad(samples.astype(np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    found: NDArray[np.float32] = (power @ _triangles(rate, window, bands).T).astype(np.float32)
    return found


def _triangles(rate: int, window: int, bands: int) -> NDArray[np.float64]:
    """Weights of the spectrum's bins in each band, (bands, window // 2 + 1)."""
    bins = np.fft.rfftfreq(window, 1 / rate)
    edges = _hertz(np.linspace(0, _mel(rate / 2), bands + 2))
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = 2 / (edges[2:] - edges[:-2])
    found: NDArray[np.float64] = np.maximum(0, np.minimum(rise, fall)) * area[:, None]
    return found


def _mel(hertz: float) -> float:
    if hertz < BREAK_HZ:
        return hertz / LINEAR_HZ
    return float(BREAK_HZ / LINEAR_HZ + np.log(hertz / BREAK_HZ) / LOG_STEP)


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    knee = BREAK_HZ / LINEAR_HZ
    found: NDArray[np.float64] = np.where(
        mels < knee, mels * LINEAR_HZ, BREAK_HZ * np.exp(LOG_STEP * (mels - knee))
    )
    return found
