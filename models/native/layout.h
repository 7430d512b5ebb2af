// Describes structs and constants that Python shares, for models/native/layout.py to compare with its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

// DO(S, name) for every name, of which there are at most 64.
#define LAYOUT_EACH(DO, S, ...) LAYOUT_SCAN_64(LAYOUT_NEXT(DO, S, __VA_ARGS__))
#define LAYOUT_NEXT(DO, S, name, ...) DO(S, name) __VA_OPT__(LAYOUT_NEXT_LATER LAYOUT_PARENS(DO, S, __VA_ARGS__))
#define LAYOUT_NEXT_LATER() LAYOUT_NEXT
#define LAYOUT_PARENS ()
#define LAYOUT_SCAN_64(...) LAYOUT_SCAN_16(LAYOUT_SCAN_16(LAYOUT_SCAN_16(LAYOUT_SCAN_16(__VA_ARGS__))))
#define LAYOUT_SCAN_16(...) LAYOUT_SCAN_4(LAYOUT_SCAN_4(LAYOUT_SCAN_4(LAYOUT_SCAN_4(__VA_ARGS__))))
#define LAYOUT_SCAN_4(...) LAYOUT_SCAN(LAYOUT_SCAN(LAYOUT_SCAN(LAYOUT_SCAN(__VA_ARGS__))))
#define LAYOUT_SCAN(...) __VA_ARGS__

#define LAYOUT_FIELD(S, name) layout.field<decltype(S::name)>(#S "." #name, offsetof(S, name));
#define LAYOUT_CONSTANT(S, name) layout.constant(#name, int64_t(name));

// Adds a struct to `layout`. The names are all of its fields, in their order: fewer do not compile.
#define LAYOUT_STRUCT(layout, S, ...)                                             \
  do {                                                                            \
    layout.structure(#S, sizeof(S));                                              \
    LAYOUT_EACH(LAYOUT_FIELD, S, __VA_ARGS__)                                     \
    (void)[](const S& all) { [[maybe_unused]] const auto& [__VA_ARGS__] = all; }; \
  } while (0)
#define LAYOUT_CONSTANTS(layout, ...) LAYOUT_EACH(LAYOUT_CONSTANT, , __VA_ARGS__)

namespace {

// A line for each struct ("struct", name, bytes), field ("field", name, offset, bytes, letter) and constant
// ("constant", name, value).
class Layout {
 public:
  void structure(const char* name, size_t bytes) { line("struct", name, std::to_string(bytes)); }
  void constant(const char* name, int64_t value) { line("constant", name, std::to_string(value)); }
  template <class T>
  void field(const char* name, size_t offset) {
    const char type = letter<std::remove_all_extents_t<T>>();
    line("field", name, std::to_string(offset) + ' ' + std::to_string(sizeof(T)) + ' ' + type);
  }
  const std::string& text() const { return text_; }

 private:
  // p: pointer, f: floating point, i: signed, u: unsigned, s: struct.
  template <class T>
  static constexpr char letter() {
    if (std::is_pointer_v<T>) return 'p';
    if (std::is_class_v<T>) return 's';
    if (std::is_floating_point_v<T>) return 'f';
    return std::is_signed_v<T> ? 'i' : 'u';
  }

  void line(const char* kind, const char* name, const std::string& values) {
    text_ += std::string(kind) + ' ' + name + ' ' + values + '\n';
  }

  std::string text_;
};

}  // namespace
