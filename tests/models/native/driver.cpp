// Calls functions of a kernel for a process that cannot load it: another instruction set, or another processor.
//
// Compiled with -DKERNEL='"evaluation.cpp"' and -DEVALUATION, or training.cpp. Reads requests from the standard input
// until it ends and answers each on the standard output; tests/models/native/foreign.py is the other side. All numbers
// are int64 of the machine's order.
//
// Request: bytes of memory, number of pointers, number of arguments; the function's name, 64 bytes; the memory; the
// pointers in it (where one stands, what place it is to point to); the arguments (kind, value).
// Answer: the result, bytes of text, the text; the memory.

#include KERNEL

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace driver {

enum Kind : int64_t { NUMBER, PLACE, DOUBLE };

struct Argument {
  int64_t kind, value;
};

struct Pointer {
  int64_t at, place;
};

struct Request {
  int64_t bytes, pointers, arguments;
  char name[64];
};

struct Answer {
  int64_t result = 0;
  std::string text;
};

void fail(const std::string& reason) {
  std::fprintf(stderr, "%s\n", reason.c_str());
  std::exit(1);
}

template <class A>
A argument(const Argument& given, char* memory) {
  if constexpr (std::is_pointer_v<A>) {
    return reinterpret_cast<A>(given.kind == PLACE ? reinterpret_cast<intptr_t>(memory) + given.value : given.value);
  } else if constexpr (std::is_floating_point_v<A>) {
    double value;
    std::memcpy(&value, &given.value, sizeof value);
    return A(given.kind == DOUBLE ? value : double(given.value));
  } else {
    return A(given.value);
  }
}

using Function = std::function<Answer(const std::vector<Argument>&, char*)>;

template <class R, class... A, size_t... I>
Answer call(R (*function)(A...), const std::vector<Argument>& given, char* memory, std::index_sequence<I...>) {
  if (given.size() != sizeof...(A)) fail("wrong number of arguments");
  Answer answer;
  if constexpr (std::is_void_v<R>)
    function(argument<A>(given[I], memory)...);
  else if constexpr (std::is_same_v<R, const char*>)
    answer.text = function(argument<A>(given[I], memory)...);
  else if constexpr (std::is_pointer_v<R>)
    answer.result = reinterpret_cast<intptr_t>(function(argument<A>(given[I], memory)...));
  else
    answer.result = int64_t(function(argument<A>(given[I], memory)...));
  return answer;
}

template <class R, class... A>
Function wrap(R (*function)(A...)) {
  return [function](const std::vector<Argument>& given, char* memory) {
    return call(function, given, memory, std::index_sequence_for<A...>());
  };
}

#define ENTRY(NAME) {#NAME, wrap(NAME)}
#define ENTRIES(TYPE)                                                                                               \
  ENTRY(wirings_node_forward_##TYPE), ENTRY(wirings_node_backward_##TYPE), ENTRY(wirings_count_edges_##TYPE),       \
      ENTRY(wirings_list_edges_##TYPE), ENTRY(wirings_turn_edges_##TYPE), ENTRY(wirings_sum_over_edges_##TYPE),     \
      ENTRY(wirings_keep_largest_##TYPE), ENTRY(wirings_zero_rows_##TYPE), ENTRY(wirings_copy_rows_##TYPE),         \
      ENTRY(wirings_place_##TYPE), ENTRY(wirings_product_at_edges_##TYPE), ENTRY(wirings_to_planes_##TYPE),         \
      ENTRY(wirings_from_planes_##TYPE)

const std::map<std::string, Function> FUNCTIONS = {
    ENTRY(wirings_layout),
#ifdef EVALUATION
    ENTRY(wirings_lanes), ENTRY(wirings_computes_in_half), ENTRY(wirings_max_tile), ENTRY(wirings_max_shared_tile), ENTRY(wirings_create),
    ENTRY(wirings_run), ENTRY(wirings_destroy),
#else
    ENTRIES(float), ENTRIES(double),
#endif
};

// False where the input is over.
bool read(void* to, size_t bytes) { return std::fread(to, 1, bytes, stdin) == bytes; }
void write(const void* from, size_t bytes) { std::fwrite(from, 1, bytes, stdout); }

void serve(const Request& request) {
  constexpr int64_t LINE = 64;
  const size_t room = (request.bytes / LINE + 1) * LINE;
  char* const memory = static_cast<char*>(std::aligned_alloc(LINE, room));
  std::vector<Pointer> pointers(request.pointers);
  std::vector<Argument> arguments(request.arguments);
  if (!memory || !read(memory, request.bytes) || !read(pointers.data(), sizeof(Pointer) * pointers.size()) ||
      !read(arguments.data(), sizeof(Argument) * arguments.size()))
    fail("an incomplete request");
  for (const Pointer& pointer : pointers) {
    char* const target = memory + pointer.place;
    std::memcpy(memory + pointer.at, &target, sizeof target);
  }
  const auto found = FUNCTIONS.find(request.name);
  if (found == FUNCTIONS.end()) fail(std::string("no function ") + request.name);
  const Answer answer = found->second(arguments, memory);
  const int64_t head[2] = {answer.result, int64_t(answer.text.size())};
  write(head, sizeof head);
  write(answer.text.data(), answer.text.size());
  write(memory, request.bytes);
  std::fflush(stdout);
  std::free(memory);
}

}  // namespace driver

int main() {
  for (driver::Request request; driver::read(&request, sizeof request);) driver::serve(request);
}
