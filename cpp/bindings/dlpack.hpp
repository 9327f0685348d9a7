// Arrays borrowed from Python by the DLPack protocol (structs after dlpack.h 1.0, https://dmlc.github.io/dlpack): NumPy
// and torch alike, read-only NumPy arrays too, without a copy and without linking either.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bainite/float16.hpp"
#include "bainite/view.hpp"

namespace bainite::bind {

namespace py = pybind11;

struct DLDevice {
  std::int32_t device_type;
  std::int32_t device_id;
};

struct DLDataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // elements; null: C-contiguous
  std::uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};

struct DLManagedTensorVersioned {
  std::uint32_t version_major;
  std::uint32_t version_minor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor dl_tensor;
};

// Where the arrays of a call lie, and on which stream it runs.
class Where {
 public:
  Where() = default;
  explicit Where(std::optional<std::uint64_t> stream) : stream_(stream) {}
  bool device() const { return stream_.has_value(); }
  std::uint64_t stream() const { return stream_.value_or(0); }  // a cudaStream_t; 0: the default stream

 private:
  std::optional<std::uint64_t> stream_;  // none: host memory
};

enum class DType { uint8, uint16, int16, int32, int64, float32, float64, bfloat16, float16, other };

// An array for the duration of a call. The capsule keeps the memory alive and is never renamed, so its own destructor
// gives the array back; a Borrowed must die while the GIL is held.
class Borrowed {
 public:
  // `name`: how errors call it. `write`: the kernel writes into it, so a read-only array is refused. On a device the
  // call's stream waits for what made the array, as the protocols ask.
  Borrowed(const py::handle& object, const char* name, bool write, Where where = {});

  DType dtype() const { return dtype_; }
  int device() const { return device_; }  // number of the CUDA device; -1: host memory
  // Refuses where another array lies on another device.
  void require_device_of(const Borrowed& other) const;
  std::string describe() const;  // "uint8 [3, 4]"
  int ndim() const { return static_cast<int>(shape_.size()); }
  std::int64_t shape(int axis) const { return shape_[static_cast<std::size_t>(axis)]; }
  // Elements from one index to the next; along an axis of length 1 any value serves, so it is 0 there.
  std::int64_t stride(int axis) const { return strides_[static_cast<std::size_t>(axis)]; }
  std::int64_t size() const;
  bool contiguous(int from_axis) const;

  // ValueError: "<name> must be <what>; got <describe()>".
  [[noreturn]] void refuse(const std::string& what) const;

  template <class T>
  T* data() const {
    return static_cast<T*>(data_);
  }

  void require(DType dtype, int ndim, const char* what) const;
  template <class T>
  View2D<T> view2d() const;  // [rows, cols], last axis contiguous
  template <class T>
  View3D<T> view3d() const;  // [rows, cols] or [rows, cols, channels], last axes contiguous
  template <class T>
  View4D<T> view4d() const;
  template <class T>
  const T* vector(std::int64_t length) const;  // contiguous [length]

 private:
  void take_dlpack(Where where, bool write);
  void take_interface(const py::handle& object, Where where, bool write);  // __cuda_array_interface__
  // On a device what lies between its items' addresses cannot be read: the process could use the device no more.
  void require_whole_items(std::int64_t item) const;

  std::string name_;
  py::object capsule_;
  void* data_ = nullptr;
  int device_ = -1;
  DType dtype_ = DType::other;
  std::string dtype_name_;
  std::vector<std::int64_t> shape_;
  std::vector<std::int64_t> strides_;
};

template <class T>
View2D<T> Borrowed::view2d() const {
  if (ndim() != 2 || !contiguous(1)) refuse("2-D with contiguous rows");
  return {data<T>(), shape(0), shape(1), stride(0)};
}

template <class T>
View3D<T> Borrowed::view3d() const {
  if ((ndim() != 2 && ndim() != 3) || !contiguous(1))
    refuse("[rows, cols] or [rows, cols, channels] with contiguous rows");
  return {data<T>(), shape(0), shape(1), ndim() == 3 ? shape(2) : 1, stride(0)};
}

template <class T>
View4D<T> Borrowed::view4d() const {
  if (ndim() != 4) refuse("4-D [n, channels, rows, cols]");
  return {data<T>(), shape(0), shape(1), shape(2), shape(3), stride(0), stride(1), stride(2), stride(3)};
}

template <class T>
const T* Borrowed::vector(std::int64_t length) const {
  if (ndim() != 1 || shape(0) != length || !contiguous(0)) refuse("contiguous [" + std::to_string(length) + "]");
  return data<const T>();
}

}  // namespace bainite::bind
