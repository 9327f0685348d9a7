#include "dlpack.hpp"

#include <stdexcept>

namespace bainite::bind {
namespace {

constexpr std::int32_t kCpu = 1;
constexpr std::int32_t kCudaHost = 3;  // pinned memory
constexpr std::uint64_t kReadOnly = 1;

DType dtype_of(const DLDataType& type) {
  enum Code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };
  if (type.lanes != 1) return DType::other;
  if ((type.code == kUInt || type.code == kBool) && type.bits == 8) return DType::uint8;
  if (type.code == kUInt && type.bits == 16) return DType::uint16;
  if (type.code == kInt && type.bits == 16) return DType::int16;
  if (type.code == kInt && type.bits == 32) return DType::int32;
  if (type.code == kInt && type.bits == 64) return DType::int64;
  if (type.code == kFloat && type.bits == 32) return DType::float32;
  if (type.code == kFloat && type.bits == 64) return DType::float64;
  if (type.code == kFloat && type.bits == 16) return DType::float16;
  if (type.code == kBfloat && type.bits == 16) return DType::bfloat16;
  return DType::other;
}

std::string name_of(const DLDataType& type) {
  static constexpr const char* kKinds[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
  const std::string kind = type.code < 7 ? kKinds[type.code] : "type" + std::to_string(type.code) + "_";
  return kind + std::to_string(type.bits);
}

py::object export_capsule(const py::handle& object, const char* name) {
  if (!py::hasattr(object, "__dlpack__")) {
    throw py::type_error(std::string(name) + " must be a NumPy array or a torch tensor; got " +
                         py::cast<std::string>(py::type::of(object).attr("__name__")));
  }
  const py::object method = object.attr("__dlpack__");
  try {
    return method(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& error) {
    // A producer older than the keyword: its unversioned capsule says nothing of read-only arrays, it refuses them.
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method();
}

}  // namespace

Borrowed::Borrowed(const py::handle& object, const char* name, bool write)
    : name_(name), capsule_(export_capsule(object, name)) {
  const DLTensor* tensor = nullptr;
  bool read_only = false;
  if (PyCapsule_IsValid(capsule_.ptr(), "dltensor_versioned") != 0) {
    const auto* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule_.ptr(), "dltensor_versioned"));
    if (managed->version_major != 1) {
      throw py::value_error(name_ + " speaks DLPack " + std::to_string(managed->version_major) + "; 1 is understood");
    }
    tensor = &managed->dl_tensor;
    read_only = (managed->flags & kReadOnly) != 0;
  } else if (PyCapsule_IsValid(capsule_.ptr(), "dltensor") != 0) {
    tensor = &static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule_.ptr(), "dltensor"))->dl_tensor;
  } else {
    throw py::type_error(name_ + " gave no DLPack capsule");
  }
  dtype_ = dtype_of(tensor->dtype);
  dtype_name_ = name_of(tensor->dtype);
  shape_.assign(tensor->shape, tensor->shape + tensor->ndim);
  strides_.assign(shape_.size(), 0);
  std::int64_t contiguous_stride = 1;
  for (std::size_t axis = shape_.size(); axis-- > 0;) {
    if (shape_[axis] > 1) strides_[axis] = tensor->strides != nullptr ? tensor->strides[axis] : contiguous_stride;
    contiguous_stride *= shape_[axis];
  }
  data_ = static_cast<char*>(tensor->data) + tensor->byte_offset;
  const std::int32_t device = tensor->device.device_type;
  if (device != kCpu && device != kCudaHost) refuse("in host memory");
  if (write && read_only) refuse("writeable; it is read-only");
}

std::string Borrowed::describe() const {
  std::string text = dtype_name_ + " [";
  for (std::size_t axis = 0; axis < shape_.size(); ++axis) {
    text += (axis > 0 ? ", " : "") + std::to_string(shape_[axis]);
  }
  text += "] with strides (";
  for (std::size_t axis = 0; axis < strides_.size(); ++axis) {
    text += (axis > 0 ? ", " : "") + std::to_string(strides_[axis]);
  }
  return text + ")";
}

std::int64_t Borrowed::size() const {
  std::int64_t product = 1;
  for (const std::int64_t length : shape_) product *= length;
  return product;
}

bool Borrowed::contiguous(int from_axis) const {
  if (size() == 0) return true;
  std::int64_t expected = 1;
  for (int axis = ndim() - 1; axis >= from_axis; --axis) {
    if (shape(axis) > 1 && stride(axis) != expected) return false;
    expected *= shape(axis);
  }
  return true;
}

void Borrowed::refuse(const std::string& what) const {
  throw py::value_error(name_ + " must be " + what + "; got " + describe());
}

void Borrowed::require(DType dtype, int dimensions, const char* what) const {
  if (dtype_ != dtype || ndim() != dimensions) refuse(what);
}

}  // namespace bainite::bind
