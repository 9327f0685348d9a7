#include "dlpack.hpp"

#include <stdexcept>

#include "bainite/cuda.hpp"

namespace bainite::bind {
namespace {

constexpr std::int32_t kCpu = 1;
constexpr std::int32_t kCuda = 2;
constexpr std::int32_t kCudaHost = 3;  // pinned memory
constexpr std::int32_t kCudaManaged = 13;
constexpr std::uint64_t kReadOnly = 1;

// Truth values are read as integers, but never written: a kernel's 2 would be none of them.
DType dtype_of(const DLDataType& type, bool write) {
  enum Code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };
  if (type.lanes != 1) return DType::other;
  if ((type.code == kUInt || (type.code == kBool && !write)) && type.bits == 8) return DType::uint8;
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

py::object export_capsule(const py::handle& object, const char* name, Where where) {
  if (!py::hasattr(object, "__dlpack__")) {
    const char* kinds = where.device() ? "an array in device memory, such as a torch tensor on cuda"
                                       : "a NumPy array or a torch tensor";
    throw py::type_error(std::string(name) + " must be " + kinds + "; got " +
                         py::cast<std::string>(py::type::of(object).attr("__name__")));
  }
  if (where.device() && py::hasattr(object, "__dlpack_device__")) {  // before it is asked for a stream that it has not
    const py::tuple device = object.attr("__dlpack_device__")();
    const auto kind = py::cast<std::int32_t>(device[0]);
    if (kind != kCuda && kind != kCudaManaged) {
      throw py::value_error(std::string(name) +
                            " must be in the memory of a CUDA device, as the other arrays are; its " +
                            "device is of DLPack's kind " + std::to_string(kind) +
                            (kind == kCpu || kind == kCudaHost ? ", host memory" : ""));
    }
  }
  const py::object method = object.attr("__dlpack__");
  py::dict options;
  // The protocol's name of the default stream is 1.
  if (where.device()) options["stream"] = where.stream() == 0 ? std::uint64_t{1} : where.stream();
  options["max_version"] = py::make_tuple(1, 0);
  try {
    return method(**options);
  } catch (py::error_already_set& error) {
    // A producer older than the keyword: its unversioned capsule says nothing of read-only arrays, it refuses them.
    if (!error.matches(PyExc_TypeError)) throw;
  }
  options.attr("pop")("max_version");
  return method(**options);
}

// A "typestr" of the array interface, such as "|u1": its byte order, kind and bytes.
DLDataType type_of(const std::string& text) {
  enum Code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBool = 6, kUnknown = 99 };
  if (text.size() < 3 || text[0] == '>') return {kUnknown, 0, 1};
  const std::uint8_t code = text[1] == 'i'   ? kInt
                            : text[1] == 'u' ? kUInt
                            : text[1] == 'f' ? kFloat
                            : text[1] == 'b' ? kBool
                                             : kUnknown;
  const auto bits = text.size() == 3 && text[2] >= '1' && text[2] <= '9' ? 8 * (text[2] - '0') : 0;
  return {code, static_cast<std::uint8_t>(bits), 1};
}

}  // namespace

Borrowed::Borrowed(const py::handle& object, const char* name, bool write, Where where) : name_(name) {
  if (where.device() && !py::hasattr(object, "__dlpack__") && py::hasattr(object, "__cuda_array_interface__")) {
    take_interface(object, where, write);
    return;
  }
  capsule_ = export_capsule(object, name, where);
  take_dlpack(where, write);
}

void Borrowed::take_dlpack(Where where, bool write) {
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
  dtype_ = dtype_of(tensor->dtype, write);
  dtype_name_ = name_of(tensor->dtype);
  shape_.assign(tensor->shape, tensor->shape + tensor->ndim);
  strides_.assign(shape_.size(), 0);
  std::int64_t contiguous_stride = 1;
  for (std::size_t axis = shape_.size(); axis-- > 0;) {
    if (shape_[axis] > 1) strides_[axis] = tensor->strides != nullptr ? tensor->strides[axis] : contiguous_stride;
    contiguous_stride *= shape_[axis];
  }
  data_ = static_cast<char*>(tensor->data) + tensor->byte_offset;
  const std::int32_t kind = tensor->device.device_type;
  const bool on_device = kind == kCuda || kind == kCudaManaged;
  if (where.device() && !on_device) refuse("in the memory of a CUDA device, as the other arrays are");
  if (!where.device() && kind != kCpu && kind != kCudaHost) refuse("in host memory");
  if (on_device) device_ = tensor->device.device_id;
  if (write && read_only) refuse("writeable; it is read-only");
  require_whole_items(tensor->dtype.bits / 8);
}

void Borrowed::take_interface(const py::handle& object, Where where, bool write) {
  const py::dict found = object.attr("__cuda_array_interface__");
  const auto type = type_of(py::cast<std::string>(found["typestr"]));
  dtype_ = dtype_of(type, write);
  dtype_name_ = dtype_ == DType::other ? py::cast<std::string>(found["typestr"]) : name_of(type);
  for (const py::handle length : found["shape"]) shape_.push_back(py::cast<std::int64_t>(length));
  strides_.assign(shape_.size(), 0);
  const bool has_strides = found.contains("strides") && !found["strides"].is_none();
  const std::int64_t item = type.bits > 0 ? type.bits / 8 : 1;
  std::int64_t contiguous_stride = 1;
  for (std::size_t axis = shape_.size(); axis-- > 0;) {
    const std::int64_t bytes =
        has_strides ? py::cast<std::int64_t>(py::tuple(found["strides"])[axis]) : contiguous_stride * item;
    if (shape_[axis] > 1 && bytes % item != 0) refuse("of strides that are whole items");
    if (shape_[axis] > 1) strides_[axis] = bytes / item;
    contiguous_stride *= shape_[axis];
  }
  if (found.contains("mask") && !found["mask"].is_none()) refuse("without a mask");
  const py::tuple data = found["data"];
  data_ = reinterpret_cast<void*>(py::cast<std::uintptr_t>(data[0]));
  if (write && py::cast<bool>(data[1])) refuse("writeable; it is read-only");
  device_ = 0;
  require_whole_items(item);
  if constexpr (BAINITE_HAS_CUDA != 0) {
    if (size() == 0 || cuda::device_count() == 0) return;
    device_ = cuda::device_of(data_);
    if (!found.contains("stream") || found["stream"].is_none()) return;
    const auto theirs = py::cast<std::uintptr_t>(found["stream"]);
    const cuda::CurrentDevice current(device_);
    cuda::order(reinterpret_cast<void*>(theirs), reinterpret_cast<void*>(where.stream()));
  }
}

void Borrowed::require_whole_items(std::int64_t item) const {
  if (device_ < 0 || item <= 0 || reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::uintptr_t>(item) == 0) {
    return;
  }
  refuse("at an address that is a multiple of its item's " + std::to_string(item) + " bytes");
}

void Borrowed::require_device_of(const Borrowed& other) const {
  if (device_ == other.device_) return;
  throw py::value_error(name_ + " is on cuda:" + std::to_string(device_) + " and " + other.name_ +
                        " on cuda:" + std::to_string(other.device_) + "; bring both to one device");
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
