// Tensors of files as MLX primitives: mapped when they are evaluated, not copied.
#include "file_primitives.h"

#include <cstring>
#include <utility>

#include "primitive.h"
#include "weights_buffer.h"

namespace imn {
namespace {

class FileArray : public Native {
 public:
  FileArray(std::shared_ptr<MappedFile> file, size_t start)
      : Native("file_array", {}), file_(std::move(file)), start_(start) {}

  // At once, not on the stream's thread: a file that cannot be read is the caller's error.
  void eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>& out) override {
    const MappedFile::Mapping mapping = file_->map(start_, out[0].nbytes());
    char* word = static_cast<char*>(mapping.data) - sizeof(size_t);
    const size_t bytes = out[0].nbytes();
    std::memcpy(word, &bytes, sizeof bytes);
    out[0].set_data(mx::allocator::Data(mx::allocator::Buffer(word), [mapping](mx::allocator::Buffer) { mapping.unmap(); }));
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>&) override {
    throw std::runtime_error(message("is read outside of compiled functions"));
  }
  bool is_equivalent(const mx::Primitive& other) const override { return this == &other; }

  const std::shared_ptr<MappedFile>& file() const { return file_; }
  size_t start() const { return start_; }

 private:
  std::shared_ptr<MappedFile> file_;
  size_t start_;
};

// Weights in a file, in the order of the products, where they lie.
class FileWeights : public Native {
 public:
  FileWeights(std::shared_ptr<MappedFile> file, size_t start)
      : Native("file_weights", {}), file_(std::move(file)), start_(start) {}

  void eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>& out) override {
    // The word before, a size to MLX, is what the file has there: MLX reads it only of arrays that it may write to, and
    // these are held as long as anything computes with them.
    char* data = const_cast<char*>(file_->weights(start_, out[0].nbytes()));
    out[0].set_data(
        mx::allocator::Data(mx::allocator::Buffer(data - sizeof(size_t)), [file = file_](mx::allocator::Buffer) {}));
  }
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>&) override {
    throw std::runtime_error(message("is read outside of compiled functions"));
  }
  bool is_equivalent(const mx::Primitive& other) const override { return this == &other; }

 private:
  std::shared_ptr<MappedFile> file_;
  size_t start_;
};

}  // namespace

bool can_map_arrays() { return can_map_files() && foreign_memory_fits(); }

std::vector<mx::array> file_arrays(int fd, const std::vector<FileTensor>& tensors) {
  const auto file = std::make_shared<MappedFile>(fd);
  std::vector<mx::array> made;
  for (const auto& [start, shape, dtype] : tensors) {
    mx::Shape dims(shape.begin(), shape.end());
    need(start % dtype.size() == 0, "start");
    made.push_back(make<FileArray>(std::move(dims), dtype, {}, file, start));
    need(made.back().size() > 0, "shape");
  }
  return made;
}

std::optional<mx::array> file_weights(const std::vector<mx::array>& parts) {
  constexpr size_t kLine = 64;
  const FileArray* first = nullptr;
  size_t end = 0;
  for (const mx::array& each : parts) {
    const FileArray* part = each.has_primitive() ? dynamic_cast<const FileArray*>(&each.primitive()) : nullptr;
    if (part == nullptr || (first != nullptr && (part->file() != first->file() || part->start() != end))) return {};
    if (first == nullptr) first = part;
    end = part->start() + each.nbytes();
  }
  if (first == nullptr || first->start() % kLine != 0) return {};
  return make<FileWeights>(mx::Shape{int(end - first->start())}, mx::uint8, {}, first->file(), first->start());
}

}  // namespace imn
