#include "text.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "bytes.h"

namespace qprof::coco_json {
namespace {

class File {
 public:
  explicit File(const char* path) : descriptor_(::open(path, O_RDONLY | O_CLOEXEC)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

#if defined(MAP_POPULATE)
// All pages at once: cheaper than a fault for each few.
constexpr int kMapFile = MAP_PRIVATE | MAP_FIXED | MAP_POPULATE;
#else
constexpr int kMapFile = MAP_PRIVATE | MAP_FIXED;
#endif

}  // namespace

Text::~Text() {
  if (mapped_ != 0) {
    ::munmap(bytes_, mapped_);
  } else {
    std::free(bytes_);
  }
}

int Text::open(const char* path) {
  const File file(path);
  if (file.descriptor() < 0) return errno;
  struct stat status;
  if (::fstat(file.descriptor(), &status) != 0) return errno;
  if (S_ISDIR(status.st_mode)) return EISDIR;
  // Files of /proc state no size.
  if (S_ISREG(status.st_mode) && status.st_size > 0) return map(file.descriptor(), static_cast<size_t>(status.st_size));
  return read_all(file.descriptor());
}

int Text::map(int file, size_t size) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  // One page of zeros stays behind the file's last: the padding, even where the file fills its pages or grows.
  const size_t length = (size + page - 1) / page * page + page;
  void* region = ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) return errno;
  bytes_ = static_cast<char*>(region);
  size_ = size;
  mapped_ = length;
  return ::mmap(region, size, PROT_READ, kMapFile, file, 0) == MAP_FAILED ? errno : 0;
}

int Text::read_all(int file) {
  constexpr size_t kStep = size_t{1} << 20;
  for (size_t capacity = kStep;; capacity *= 2) {
    reserve(capacity);
    while (size_ < capacity) {
      const ssize_t got = ::read(file, bytes_ + size_, capacity - size_);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno;
      if (got == 0) {
        std::memset(bytes_ + size_, 0, kPadding);
        return 0;
      }
      size_ += static_cast<size_t>(got);
    }
  }
}

void Text::copy(const char* bytes, size_t size) {
  reserve(size);
  if (size != 0) std::memcpy(bytes_, bytes, size);
  std::memset(bytes_ + size, 0, kPadding);
  size_ = size;
}

void Text::reserve(size_t capacity) {
  void* grown = std::realloc(bytes_, capacity + kPadding);
  if (grown == nullptr) throw std::bad_alloc();
  bytes_ = static_cast<char*>(grown);
}

}  // namespace qprof::coco_json
