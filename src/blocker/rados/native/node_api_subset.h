// The part of Node-API that the binding uses. Its functions and numbers are the same in every Node from 14 on, and a Node that came from npm
// or from Debian brings no headers; so they are declared here.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

typedef struct napi_env__* napi_env;
typedef struct napi_value__* napi_value;
typedef struct napi_ref__* napi_ref;
typedef struct napi_callback_info__* napi_callback_info;
typedef struct napi_threadsafe_function__* napi_threadsafe_function;

// More of them exist; all others are errors.
enum napi_status : int { napi_ok = 0 };
enum napi_typedarray_type : int { napi_uint8_array = 1, napi_int32_array = 5 };
enum napi_property_attributes : int { napi_enumerable = 2 };
enum napi_threadsafe_function_release_mode : int { napi_tsfn_abort = 1 };
enum napi_threadsafe_function_call_mode : int { napi_tsfn_nonblocking = 0 };
constexpr size_t NAPI_AUTO_LENGTH = SIZE_MAX;

typedef napi_value (*napi_callback)(napi_env env, napi_callback_info info);
typedef void (*napi_finalize)(napi_env env, void* data, void* hint);
typedef void (*napi_threadsafe_function_call_js)(napi_env env, napi_value callback, void* context, void* data);

struct napi_property_descriptor {
  const char* utf8name;
  napi_value name;
  napi_callback method;
  napi_callback getter;
  napi_callback setter;
  napi_value value;
  napi_property_attributes attributes;
  void* data;
};

napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t* count, napi_value* values, napi_value* receiver, void** data);
napi_status napi_get_undefined(napi_env, napi_value* result);
napi_status napi_get_value_uint32(napi_env, napi_value, uint32_t* result);
napi_status napi_get_value_double(napi_env, napi_value, double* result);
napi_status napi_get_value_string_utf8(napi_env, napi_value, char* buffer, size_t size, size_t* length);
napi_status napi_get_value_external(napi_env, napi_value, void** result);
napi_status napi_is_typedarray(napi_env, napi_value, bool* result);
napi_status napi_get_typedarray_info(napi_env, napi_value, napi_typedarray_type*, size_t* length, void** data, napi_value* buffer, size_t* offset);
napi_status napi_create_uint32(napi_env, uint32_t value, napi_value* result);
napi_status napi_create_string_utf8(napi_env, const char* text, size_t length, napi_value* result);
napi_status napi_create_external(napi_env, void* data, napi_finalize, void* hint, napi_value* result);
napi_status napi_create_reference(napi_env, napi_value, uint32_t count, napi_ref* result);
napi_status napi_delete_reference(napi_env, napi_ref);
napi_status napi_define_properties(napi_env, napi_value object, size_t count, const napi_property_descriptor*);
napi_status napi_call_function(napi_env, napi_value receiver, napi_value function, size_t count, const napi_value* arguments, napi_value* result);
napi_status napi_throw_error(napi_env, const char* code, const char* message);
napi_status napi_get_and_clear_last_exception(napi_env, napi_value* result);
napi_status napi_fatal_exception(napi_env, napi_value error);
napi_status napi_add_env_cleanup_hook(napi_env, void (*hook)(void*), void* argument);
napi_status napi_remove_env_cleanup_hook(napi_env, void (*hook)(void*), void* argument);
napi_status napi_create_threadsafe_function(napi_env, napi_value function, napi_value resource, napi_value name, size_t max_queue, size_t threads,
                                            void* finalize_data, napi_finalize, void* context, napi_threadsafe_function_call_js,
                                            napi_threadsafe_function* result);
napi_status napi_call_threadsafe_function(napi_threadsafe_function, void* data, napi_threadsafe_function_call_mode);
napi_status napi_release_threadsafe_function(napi_threadsafe_function, napi_threadsafe_function_release_mode);

}  // extern "C"
