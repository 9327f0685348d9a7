"""Arrays that say they are on a device, for machines that have none: their memory is the host's, and never touched."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

CUDA, ROCM = 2, 10
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


class _Managed(ctypes.Structure):
    """`DLManagedTensorVersioned` of dlpack.h 1.0."""

    _fields_ = (
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", _Tensor),
    )  # fmt: skip


def _vector(values: Any) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


class DeviceArray:
    """A NumPy array behind the DLPack protocol of a device."""

    def __init__(self, array: Any, *, kind: int = CUDA, device: int = 0) -> None:
        self.array, self.kind, self.device = array, kind, device
        self.shape = array.shape
        self.streams: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, self.device

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        self.streams.append(stream)
        array = self.array
        self._shape = _vector(array.shape)
        self._strides = _vector([step // array.itemsize for step in array.strides])
        kind = _Type(_CODES[array.dtype.kind], 8 * array.itemsize, 1)
        where = _Device(self.kind, self.device)
        tensor = _Tensor(array.ctypes.data, where, array.ndim, kind, self._shape, self._strides, 0)
        self._managed = _Managed(1, 0, None, None, 0 if array.flags.writeable else 1, tensor)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return make(ctypes.addressof(self._managed), b"dltensor_versioned", None)


class InterfaceArray:
    """A NumPy array behind ``__cuda_array_interface__``."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.array, self.shape = array, array.shape
        host = array.__array_interface__
        self.__cuda_array_interface__ = {
            "shape": host["shape"], "typestr": host["typestr"], "strides": host["strides"], "version": 3,
            "data": (array.ctypes.data, not array.flags.writeable), **changes,
        }  # fmt: skip


def on_device(array: Any) -> DeviceArray:
    """Return the array as one on cuda:0."""
    return DeviceArray(np.asarray(array))
