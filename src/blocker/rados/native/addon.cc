// Binding of librados' asynchronous calls for Node. It knows nothing of volumes: it makes object names out of numbers, puts compound
// operations together, and tells JavaScript what has completed.
//
// Every operation has a slot, a small number that JavaScript gives out. Submitting returns at once; when librados has completed the
// operation, {slot, result} goes into a queue, and one wake-up of the main thread hands over all that has gathered by then. JavaScript runs
// on no other thread. Whatever blocks runs on one of two threads of the cluster's own and completes through the same queue: one is for what
// the OSDs have to answer (listing), the other for what takes the monitors (connecting, usage, shutting down).
//
// Memory: what is written is copied by librados at submission. What is read goes straight into the caller's memory, which JavaScript keeps
// alive, and does not move or detach, until the slot has completed; there is no time-out that would free it earlier.

#include <rados/librados.h>

#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "node_api_subset.h"

namespace {

// What a mutation consists of; the numbers are repeated in binding.ts.
enum Step : uint32_t {
  STEP_CREATE_EXCLUSIVE = 1,  // fails with EEXIST
  STEP_SUCCEED = 2,           // the stored epoch must be `length`; ENOENT when the object is missing
  STEP_GUARD = 4,             // the stored epoch must not be above the given one; ENOENT when the object is missing
  STEP_STAMP = 8,             // stores the epoch
  STEP_HINT = 16,             // says how large the object will get
  STEP_CUT = 32,              // truncates to `offset` before anything is written
  STEP_WRITE = 64,
  STEP_WRITE_FULL = 128,
  STEP_ZERO = 256,
  STEP_REMOVE = 512,
  STEP_SET_SEGMENTS = 1024,  // stores the data as an attribute
};

// Kinds of names, and the pool that each lies in.
enum Kind : uint32_t { KIND_BLOCK = 0, KIND_PAGE = 1, KIND_HEADER = 2, KIND_JOURNAL = 3, KIND_SUPERBLOCK = 4 };
enum Pool : uint32_t { POOL_MAPS = 0, POOL_BLOCKS = 1 };
enum Attribute : uint32_t { ATTRIBUTE_EPOCH = 0, ATTRIBUTE_SEGMENTS = 1 };

constexpr const char* EPOCH_ATTRIBUTE = "epoch";
constexpr const char* SEGMENTS_ATTRIBUTE = "segments";
constexpr size_t NAME_BYTES = 48;
constexpr int32_t POOL_IS_GONE = -ENXIO;

struct Completed {
  uint32_t slot;
  int32_t result;
};

// A thread for calls that block, one after the other.
class Worker {
 public:
  void start() {
    thread = std::thread([this] { run(); });
  }

  void later(std::function<void()> what) {
    std::lock_guard<std::mutex> lock(mutex);
    work.push_back(std::move(what));
    ready.notify_one();
  }

  // After everything has run.
  void end() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      ends = true;
      ready.notify_one();
    }
    thread.join();
  }

 private:
  std::thread thread;
  std::mutex mutex;
  std::condition_variable ready;
  std::deque<std::function<void()>> work;
  bool ends = false;

  void run() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      ready.wait(lock, [this] { return ends || !work.empty(); });
      if (work.empty()) return;
      auto next = std::move(work.front());
      work.pop_front();
      lock.unlock();
      next();
      lock.lock();
    }
  }
};

struct Cluster;

// What librados gives back with a completion. There is one for each slot, and it is the slot's from submission until JavaScript hears of it.
struct Operation {
  Cluster* cluster;
  uint32_t slot;
  rados_completion_t completion;
  rados_ioctx_t pool;
  uint64_t stat_size;
  time_t stat_time;
  bool stat;
};

struct Cluster {
  rados_t rados = nullptr;
  rados_ioctx_t pools[2] = {nullptr, nullptr};
  napi_threadsafe_function wake = nullptr;
  napi_ref results_ref = nullptr;
  int32_t* results = nullptr;  // pairs of slot and result, shared with JavaScript
  size_t results_capacity = 0;

  std::mutex mutex;
  std::vector<Completed> completed;
  bool woken = false;
  bool closing = false;

  Worker listing;
  Worker asking;
  // Filled on a worker's thread before the slot completes, taken on the main thread after.
  std::deque<std::pair<uint32_t, std::string>> texts;
  // Only `listing` touches it, and `close` after that has nothing to do any more.
  std::unordered_map<uint32_t, rados_list_ctx_t> listings;
  // As many as `results` has pairs; it never grows.
  std::vector<Operation> operations;

  void complete(uint32_t slot, int32_t result) {
    std::lock_guard<std::mutex> lock(mutex);
    completed.push_back({slot, result});
    if (woken || closing) return;
    woken = true;
    napi_call_threadsafe_function(wake, nullptr, napi_tsfn_nonblocking);
  }
};

void throw_error(napi_env env, const char* message) { napi_throw_error(env, nullptr, message); }

#define REQUIRE(env, condition, message) \
  do {                                   \
    if (!(condition)) {                  \
      throw_error(env, message);         \
      return nullptr;                    \
    }                                    \
  } while (0)

constexpr size_t MAX_ARGUMENTS = 12;

struct Arguments {
  napi_env env;
  napi_value values[MAX_ARGUMENTS];
  size_t count = MAX_ARGUMENTS;
  bool valid = true;

  Arguments(napi_env env, napi_callback_info info) : env(env) {
    valid = napi_get_cb_info(env, info, &count, values, nullptr, nullptr) == napi_ok;
  }

  Cluster* cluster() {
    void* pointer = nullptr;
    valid = valid && napi_get_value_external(env, values[0], &pointer) == napi_ok;
    return static_cast<Cluster*>(pointer);
  }

  // The second argument. It is the index of an operation.
  inline uint32_t slot(const Cluster* cluster);

  uint32_t u32(size_t at) {
    uint32_t value = 0;
    valid = valid && at < count && napi_get_value_uint32(env, values[at], &value) == napi_ok;
    return value;
  }

  // Counters are whole numbers below 2^53, which a double holds exactly.
  uint64_t u64(size_t at) {
    double value = 0;
    valid = valid && at < count && napi_get_value_double(env, values[at], &value) == napi_ok && value >= 0;
    return static_cast<uint64_t>(value);
  }

  std::string text(size_t at) {
    size_t length = 0;
    if (at >= count || napi_get_value_string_utf8(env, values[at], nullptr, 0, &length) != napi_ok) {
      valid = false;
      return {};
    }
    std::string value(length, '\0');
    valid = valid && napi_get_value_string_utf8(env, values[at], value.data(), length + 1, &length) == napi_ok;
    return value;
  }

  // The bytes of a Uint8Array; none for null.
  char* bytes(size_t at, size_t* length) {
    *length = 0;
    bool is_array = false;
    if (at >= count || napi_is_typedarray(env, values[at], &is_array) != napi_ok || !is_array) return nullptr;
    void* data = nullptr;
    napi_typedarray_type type;
    valid = valid && napi_get_typedarray_info(env, values[at], &type, length, &data, nullptr, nullptr) == napi_ok && type == napi_uint8_array;
    return static_cast<char*>(data);
  }
};

uint32_t Arguments::slot(const Cluster* cluster) {
  const uint32_t value = u32(1);
  valid = valid && cluster != nullptr && value < cluster->operations.size();
  return value;
}

Pool pool_of(uint32_t kind, uint64_t first) {
  if (kind == KIND_SUPERBLOCK) return first == POOL_BLOCKS ? POOL_BLOCKS : POOL_MAPS;
  return kind == KIND_BLOCK ? POOL_BLOCKS : POOL_MAPS;
}

bool make_name(char* name, uint32_t kind, uint64_t first, uint64_t second) {
  const auto a = static_cast<unsigned long long>(first);
  const auto b = static_cast<unsigned long long>(second);
  switch (kind) {
    case KIND_BLOCK:
      return snprintf(name, NAME_BYTES, "block.%016llx.%08llx", a, b) > 0;
    case KIND_PAGE:
      return snprintf(name, NAME_BYTES, "page.%016llx.%016llx", a, b) > 0;
    case KIND_HEADER:
      return snprintf(name, NAME_BYTES, "header.%016llx", a) > 0;
    case KIND_JOURNAL:
      return snprintf(name, NAME_BYTES, "journal.%016llx.%08llx", a, b) > 0;
    case KIND_SUPERBLOCK:
      return snprintf(name, NAME_BYTES, "superblock") > 0;
    default:
      return false;
  }
}

// Fixed width and big-endian, because the OSD compares the bytes as a string.
void epoch_bytes(uint64_t epoch, char* into) {
  for (int at = 0; at < 8; at++) into[at] = static_cast<char>(epoch >> (56 - 8 * at));
}

void completed_by_rados(rados_completion_t completion, void* argument) {
  auto* operation = static_cast<Operation*>(argument);
  int32_t result = rados_aio_get_return_value(completion);
  // Objects are small: a journal segment or a block, 64 MiB at most.
  if (operation->stat && result == 0) result = static_cast<int32_t>(operation->stat_size);
  rados_aio_release(completion);
  Cluster* cluster = operation->cluster;
  const uint32_t slot = operation->slot;
  rados_ioctx_t pool = operation->pool;
  // JavaScript may give the slot to another operation as soon as this is called.
  if (result != -ENOENT) return cluster->complete(slot, result);
  // Of an object that is missing, and of a pool that is: two things that must not be taken for each other. Rare enough to look each time.
  cluster->asking.later([=] {
    char name[256];
    const int found = rados_pool_reverse_lookup(cluster->rados, rados_ioctx_get_id(pool), name, sizeof name);
    cluster->complete(slot, found == -ENOENT ? POOL_IS_GONE : -ENOENT);
  });
}

Operation* take_operation(Cluster* cluster, uint32_t slot, rados_ioctx_t pool) {
  Operation* operation = &cluster->operations[slot];
  operation->cluster = cluster;
  operation->slot = slot;
  operation->pool = pool;
  operation->stat = false;
  rados_aio_create_completion2(operation, completed_by_rados, &operation->completion);
  return operation;
}

// An operation that could not even be submitted completes like any other, so that there is one way in which operations end.
void submitted(Operation* operation, int result) {
  if (result >= 0) return;
  rados_aio_release(operation->completion);
  operation->cluster->complete(operation->slot, result);
}

// mutate(cluster, slot, kind, first, second, steps, epoch, offset, length, data | null, expectedBytes)
napi_value mutate(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  const uint32_t kind = arguments.u32(2);
  const uint64_t first = arguments.u64(3);
  const uint64_t second = arguments.u64(4);
  const uint32_t steps = arguments.u32(5);
  const uint64_t epoch = arguments.u64(6);
  const uint64_t offset = arguments.u64(7);
  const uint64_t length = arguments.u64(8);
  size_t data_length = 0;
  const char* data = arguments.bytes(9, &data_length);
  const uint64_t expected_bytes = arguments.u64(10);
  char name[NAME_BYTES];
  REQUIRE(env, arguments.valid && make_name(name, kind, first, second), "mutate: wrong arguments");
  rados_ioctx_t pool = cluster->pools[pool_of(kind, first)];
  REQUIRE(env, pool != nullptr, "mutate: not connected");

  rados_write_op_t op = rados_create_write_op();
  char stamp[8];
  epoch_bytes(epoch, stamp);
  if (steps & STEP_CREATE_EXCLUSIVE) rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, nullptr);
  // The supplied value stands on the left: mine is at least the stored one. An object without the attribute passes.
  if (steps & STEP_GUARD) rados_write_op_cmpxattr(op, EPOCH_ATTRIBUTE, LIBRADOS_CMPXATTR_OP_GTE, stamp, sizeof stamp);
  if (steps & STEP_SUCCEED) {
    char expected[8];
    epoch_bytes(length, expected);
    rados_write_op_cmpxattr(op, EPOCH_ATTRIBUTE, LIBRADOS_CMPXATTR_OP_EQ, expected, sizeof expected);
  }
  if (steps & STEP_STAMP) rados_write_op_setxattr(op, EPOCH_ATTRIBUTE, stamp, sizeof stamp);
  if (steps & STEP_HINT) {
    rados_write_op_set_alloc_hint2(op, expected_bytes, expected_bytes, LIBRADOS_ALLOC_HINT_FLAG_RANDOM_READ | LIBRADOS_ALLOC_HINT_FLAG_RANDOM_WRITE);
  }
  if (steps & STEP_CUT) rados_write_op_truncate(op, offset);
  if (steps & STEP_WRITE && data_length > 0) rados_write_op_write(op, data, data_length, offset);
  if (steps & STEP_WRITE_FULL) rados_write_op_write_full(op, data, data_length);
  if (steps & STEP_ZERO) rados_write_op_zero(op, offset, length);
  if (steps & STEP_REMOVE) rados_write_op_remove(op);
  if (steps & STEP_SET_SEGMENTS) rados_write_op_setxattr(op, SEGMENTS_ATTRIBUTE, data, data_length);

  Operation* operation = take_operation(cluster, slot, pool);
  // A full cluster answers with an error instead of keeping the operation, and lets removals through.
  const int result = rados_aio_write_op_operate(op, pool, operation->completion, name, nullptr, LIBRADOS_OPERATION_FULL_TRY);
  rados_release_write_op(op);
  submitted(operation, result);
  return nullptr;
}

// read(cluster, slot, kind, first, second, offset, into): completes with the number of bytes read
napi_value read(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  const uint32_t kind = arguments.u32(2);
  const uint64_t first = arguments.u64(3);
  const uint64_t second = arguments.u64(4);
  const uint64_t offset = arguments.u64(5);
  size_t length = 0;
  char* into = arguments.bytes(6, &length);
  char name[NAME_BYTES];
  // A length of 0 would make librados read the whole object, over whatever lies behind `into`.
  REQUIRE(env, arguments.valid && into != nullptr && length > 0 && make_name(name, kind, first, second), "read: wrong arguments");
  rados_ioctx_t pool = cluster->pools[pool_of(kind, first)];
  REQUIRE(env, pool != nullptr, "read: not connected");
  Operation* operation = take_operation(cluster, slot, pool);
  submitted(operation, rados_aio_read(pool, name, operation->completion, into, length, offset));
  return nullptr;
}

// readAttribute(cluster, slot, volume, attribute, into): completes with the length of an attribute of the volume's header
napi_value read_attribute(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  const uint64_t volume = arguments.u64(2);
  const uint32_t attribute = arguments.u32(3);
  size_t length = 0;
  char* into = arguments.bytes(4, &length);
  char name[NAME_BYTES];
  REQUIRE(env, arguments.valid && into != nullptr && make_name(name, KIND_HEADER, volume, 0), "readAttribute: wrong arguments");
  rados_ioctx_t pool = cluster->pools[POOL_MAPS];
  REQUIRE(env, pool != nullptr, "readAttribute: not connected");
  const char* attribute_name = attribute == ATTRIBUTE_EPOCH ? EPOCH_ATTRIBUTE : SEGMENTS_ATTRIBUTE;
  Operation* operation = take_operation(cluster, slot, pool);
  submitted(operation, rados_aio_getxattr(pool, name, operation->completion, attribute_name, into, length));
  return nullptr;
}

// stat(cluster, slot, kind, first, second): completes with the object's size
napi_value stat(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  const uint32_t kind = arguments.u32(2);
  const uint64_t first = arguments.u64(3);
  const uint64_t second = arguments.u64(4);
  char name[NAME_BYTES];
  REQUIRE(env, arguments.valid && make_name(name, kind, first, second), "stat: wrong arguments");
  rados_ioctx_t pool = cluster->pools[pool_of(kind, first)];
  REQUIRE(env, pool != nullptr, "stat: not connected");
  Operation* operation = take_operation(cluster, slot, pool);
  operation->stat = true;
  submitted(operation, rados_aio_stat(pool, name, operation->completion, &operation->stat_size, &operation->stat_time));
  return nullptr;
}

// The main thread, once for all that has completed since the last time.
void deliver(napi_env env, napi_value callback, void* context, void*) {
  auto* cluster = static_cast<Cluster*>(context);
  if (env == nullptr) return;
  for (;;) {
    size_t count;
    {
      std::lock_guard<std::mutex> lock(cluster->mutex);
      count = cluster->completed.size();
      if (count == 0 || cluster->closing) {
        cluster->woken = false;
        return;
      }
      if (count > cluster->results_capacity) count = cluster->results_capacity;
      for (size_t at = 0; at < count; at++) {
        cluster->results[2 * at] = static_cast<int32_t>(cluster->completed[at].slot);
        cluster->results[2 * at + 1] = cluster->completed[at].result;
      }
      cluster->completed.erase(cluster->completed.begin(), cluster->completed.begin() + static_cast<std::ptrdiff_t>(count));
    }
    napi_value argument, receiver;
    napi_create_uint32(env, static_cast<uint32_t>(count), &argument);
    napi_get_undefined(env, &receiver);
    if (napi_call_function(env, receiver, callback, 1, &argument, nullptr) == napi_ok) continue;
    // Node would only warn of it: an assertion that failed has to end the process.
    napi_value error = nullptr;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }
}

// The process or its JavaScript ends: nothing is told any more. librados is left as it is: shutting it down would wait for the cluster.
void environment_ends(void* argument) {
  auto* cluster = static_cast<Cluster*>(argument);
  std::lock_guard<std::mutex> lock(cluster->mutex);
  cluster->closing = true;
}

// open(results: Int32Array, completed: (count) => void): a cluster that is not connected
napi_value open(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  auto cluster = std::make_unique<Cluster>();
  napi_typedarray_type type;
  size_t length = 0;
  void* results = nullptr;
  napi_value name;
  REQUIRE(env,
          arguments.valid && arguments.count >= 2 &&
              napi_get_typedarray_info(env, arguments.values[0], &type, &length, &results, nullptr, nullptr) == napi_ok &&
              type == napi_int32_array && length >= 2,
          "open: wrong arguments");
  napi_create_reference(env, arguments.values[0], 1, &cluster->results_ref);
  cluster->results = static_cast<int32_t*>(results);
  cluster->results_capacity = length / 2;
  cluster->operations.resize(cluster->results_capacity);
  napi_create_string_utf8(env, "librados", NAPI_AUTO_LENGTH, &name);
  REQUIRE(env,
          napi_create_threadsafe_function(env, arguments.values[1], nullptr, name, 0, 1, nullptr, nullptr, cluster.get(), deliver, &cluster->wake) ==
              napi_ok,
          "open: no thread-safe function");
  Cluster* pointer = cluster.release();
  pointer->listing.start();
  pointer->asking.start();
  napi_add_env_cleanup_hook(env, environment_ends, pointer);
  napi_value external;
  napi_create_external(env, pointer, nullptr, nullptr, &external);
  return external;
}

void release_pools(Cluster* cluster) {
  for (auto& listing : cluster->listings) rados_nobjects_list_close(listing.second);
  cluster->listings.clear();
  for (auto& pool : cluster->pools) {
    if (pool != nullptr) rados_ioctx_destroy(pool);
    pool = nullptr;
  }
}

// What stands above ceph.conf.
constexpr const char* SETTINGS[][2] = {
    // A client's own command socket serves nobody here, and its file would be left behind.
    {"admin_socket", ""},
    // Seconds, for connecting and for questions to the monitors, which change nothing.
    {"client_mount_timeout", "30"},
    {"rados_mon_op_timeout", "10"},
    // Only the answer of an OSD says what became of a change: whoever was told of a time-out could not know.
    {"rados_osd_op_timeout", "0"},
    // At these limits librados makes the caller wait, and that is the main thread. How much is under way is bounded in client.ts.
    {"objecter_inflight_ops", "0"},
    {"objecter_inflight_op_bytes", "0"},
};

// What stands below ceph.conf: it is set where that leaves librados' default.
constexpr const char* OWN_DEFAULTS[][2] = {
    // Bytes read at a time of what an OSD has sent. With librados' 4096, each answer to a read of 4 KiB takes two calls of the kernel. A
    // connection has a buffer of twice this.
    {"ms_tcp_prefetch_max_size", "16384"},
};

// The empty string for a setting that this librados does not know.
std::string setting_of(rados_t rados, const char* name) {
  char value[64];
  return rados_conf_get(rados, name, value, sizeof value) == 0 ? value : "";
}

// Reads ceph.conf, and sets what stands above and below it.
int configure(rados_t rados, const char* conf) {
  std::vector<std::string> defaults;
  for (const auto& own : OWN_DEFAULTS) defaults.push_back(setting_of(rados, own[0]));
  int result = rados_conf_read_file(rados, conf);
  size_t at = 0;
  for (const auto& own : OWN_DEFAULTS) {
    const std::string& value = defaults[at++];
    if (result == 0 && !value.empty() && setting_of(rados, own[0]) == value) result = rados_conf_set(rados, own[0], own[1]);
  }
  for (const auto& setting : SETTINGS) {
    if (result == 0) result = rados_conf_set(rados, setting[0], setting[1]);
  }
  return result;
}

int connect_now(Cluster* cluster, const std::string& user, const std::string& conf, const std::string names[2], const std::string& space,
                std::string* step) {
  *step = "configuration";
  int result = rados_create(&cluster->rados, user.c_str());
  if (result < 0) return result;
  result = configure(cluster->rados, conf.c_str());
  if (result == 0) {
    *step = "connection";
    result = rados_connect(cluster->rados);
  }
  for (int at = 0; at < 2 && result == 0; at++) {
    *step = "pool '" + names[at] + "'";
    rados_ioctx_t pool = nullptr;
    result = rados_ioctx_create(cluster->rados, names[at].c_str(), &pool);
    if (result < 0) break;
    rados_ioctx_set_namespace(pool, space.c_str());
    cluster->pools[at] = pool;
  }
  if (result < 0) {
    release_pools(cluster);
    rados_shutdown(cluster->rados);
    cluster->rados = nullptr;
  }
  return result;
}

// connect(cluster, slot, user, conf, mapsPool, blocksPool, namespace); `takeText` of the slot names the step that failed
napi_value connect(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  const std::string user = arguments.text(2);
  const std::string conf = arguments.text(3);
  const std::string names[2] = {arguments.text(4), arguments.text(5)};
  const std::string space = arguments.text(6);
  REQUIRE(env, arguments.valid, "connect: wrong arguments");
  const std::string maps = names[0], blocks = names[1];
  cluster->asking.later([=] {
    std::string step;
    const std::string pools[2] = {maps, blocks};
    const int result = connect_now(cluster, user, conf, pools, space, &step);
    {
      std::lock_guard<std::mutex> lock(cluster->mutex);
      cluster->texts.emplace_back(slot, step);
    }
    cluster->complete(slot, result);
  });
  return nullptr;
}

// list(cluster, slot, pool, listing, limit): completes with the number of names, which are `takeText` of the slot, one a line. A listing is a
// number of the caller's choice; it begins with its first call, and ends with a batch of fewer names than `limit`, or when `limit` is 0.
napi_value list(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  const uint32_t pool = arguments.u32(2);
  const uint32_t number = arguments.u32(3);
  const uint32_t limit = arguments.u32(4);
  REQUIRE(env, arguments.valid && pool < 2 && cluster->pools[pool] != nullptr, "list: wrong arguments");
  cluster->listing.later([=] {
    std::string names;
    uint32_t count = 0;
    int result = 0;
    auto found = cluster->listings.find(number);
    if (found == cluster->listings.end() && limit > 0) {
      rados_list_ctx_t opened = nullptr;
      result = rados_nobjects_list_open(cluster->pools[pool], &opened);
      if (result == 0) found = cluster->listings.emplace(number, opened).first;
    }
    while (result == 0 && count < limit) {
      const char* name = nullptr;
      size_t length = 0;
      result = rados_nobjects_list_next2(found->second, &name, nullptr, nullptr, &length, nullptr, nullptr);
      if (result < 0) break;
      names.append(name, length).push_back('\n');
      count++;
    }
    // The end of the list is an error to librados.
    if (count < limit || limit == 0) {
      if (found != cluster->listings.end()) {
        rados_nobjects_list_close(found->second);
        cluster->listings.erase(found);
      }
    }
    {
      std::lock_guard<std::mutex> lock(cluster->mutex);
      cluster->texts.emplace_back(slot, std::move(names));
    }
    cluster->complete(slot, result == 0 || result == -ENOENT ? static_cast<int32_t>(count) : result);
  });
  return nullptr;
}

// poolStatus(cluster, slot): `takeText` of the slot is "used available whole" in bytes; waits for the monitors
napi_value pool_status(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  REQUIRE(env, arguments.valid && cluster->rados != nullptr, "poolStatus: wrong arguments");
  cluster->asking.later([=] {
    uint64_t used = 0;
    int result = 0;
    for (auto pool : cluster->pools) {
      rados_pool_stat_t stat;
      if (result == 0) result = rados_ioctx_pool_stat(pool, &stat);
      if (result == 0) used += stat.num_bytes;
    }
    rados_cluster_stat_t whole;
    if (result == 0) result = rados_cluster_stat(cluster->rados, &whole);
    if (result == 0) {
      std::lock_guard<std::mutex> lock(cluster->mutex);
      cluster->texts.emplace_back(slot, std::to_string(used) + " " + std::to_string(whole.kb_avail * 1024) + " " + std::to_string(whole.kb * 1024));
    }
    cluster->complete(slot, result);
  });
  return nullptr;
}

// takeText(cluster, slot): what a completed operation has left, or the empty string
napi_value take_text(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  REQUIRE(env, arguments.valid, "takeText: wrong arguments");
  std::string text;
  {
    std::lock_guard<std::mutex> lock(cluster->mutex);
    for (auto entry = cluster->texts.begin(); entry != cluster->texts.end(); ++entry) {
      if (entry->first != slot) continue;
      text = std::move(entry->second);
      cluster->texts.erase(entry);
      break;
    }
  }
  napi_value value;
  napi_create_string_utf8(env, text.data(), text.size(), &value);
  return value;
}

// close(cluster, slot): after every operation has completed; disconnects
napi_value close(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  const uint32_t slot = arguments.slot(cluster);
  REQUIRE(env, arguments.valid, "close: wrong arguments");
  cluster->asking.later([=] {
    release_pools(cluster);
    if (cluster->rados != nullptr) rados_shutdown(cluster->rados);
    cluster->rados = nullptr;
    cluster->complete(slot, 0);
  });
  return nullptr;
}

// dispose(cluster): after `close` has completed; the cluster is not used again
napi_value dispose(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  Cluster* cluster = arguments.cluster();
  REQUIRE(env, arguments.valid && cluster != nullptr, "dispose: wrong arguments");
  {
    std::lock_guard<std::mutex> lock(cluster->mutex);
    cluster->closing = true;
  }
  cluster->listing.end();
  cluster->asking.end();
  napi_remove_env_cleanup_hook(env, environment_ends, cluster);
  napi_release_threadsafe_function(cluster->wake, napi_tsfn_abort);
  napi_delete_reference(env, cluster->results_ref);
  std::vector<Operation>().swap(cluster->operations);
  // The thread-safe function may look at the cluster once more while it goes away, so the few bytes of the cluster itself stay.
  return nullptr;
}

napi_value initialize(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"open", nullptr, open, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"connect", nullptr, connect, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"mutate", nullptr, mutate, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"read", nullptr, read, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"readAttribute", nullptr, read_attribute, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"stat", nullptr, stat, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"list", nullptr, list, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"poolStatus", nullptr, pool_status, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"takeText", nullptr, take_text, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"close", nullptr, close, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"dispose", nullptr, dispose, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  return exports;
}

}  // namespace

// By which Node finds the binding.
extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) { return initialize(env, exports); }
extern "C" __attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1() { return 8; }
