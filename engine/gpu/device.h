// SPDX-License-Identifier: LGPL-2.1-or-later
// gpu/device.h — one Vulkan device and everything the engine asks it.
#ifndef VLM_GPU_DEVICE_H
#define VLM_GPU_DEVICE_H

#include <vulkan/vulkan.h>

#include "gpu/coopmat.h"
#include "gpu/tuning.h"
#include "vlm.h"

// What a kernel may need beyond the required features (Vulkan 1.2: bufferDeviceAddress,
// timelineSemaphore, shaderInt64, 8- and 16-bit storage, subgroup basic + ballot + arithmetic +
// shuffle in compute with at least 8 lanes).
typedef enum vlm_caps {
    VLM_CAP_INT_DOT = 1 << 0,   // dot products of four signed bytes, in whole subgroups
    VLM_CAP_F16 = 1 << 1,       // f16 arithmetic
    VLM_CAP_PARALLEL = 1 << 3,  // runs thousands of subgroups at once, as GPUs do
    VLM_CAP_COOPMAT = 1 << 2,   // matrix units: VK_KHR_cooperative_matrix with f16 in, f32 out
    VLM_CAP_COOPMAT2 = 1 << 4,  // with COOPMAT: VK_NV_cooperative_matrix2, see gpu/coopmat.h
} vlm_caps;

// The caller's memory that kernels can read in place (gpu/external_memory.h).
typedef struct vlm_external_support {
    gboolean host, dmabuf;
} vlm_external_support;

#define VLM_CAPS_ALL     0xffffffffu
#define VLM_N_KERNEL_MAX 384

// Thread-safety: create and destroy are not; the fields before `layout` are read-only once
// the device exists, but for `tuning`; counters are atomic.
typedef struct vlm_device {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;  // used by one thread at a time: hold `queue_lock` around a submit
    GMutex queue_lock;
    uint32_t queue_family;
    VkPhysicalDeviceMemoryProperties memory;
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    char driver[VK_MAX_DRIVER_NAME_SIZE];
    uint32_t vendor_id;
    uint32_t device_id;
    uint32_t driver_version;
    uint8_t uuid[VK_UUID_SIZE];
    VkPhysicalDeviceType type;
    gboolean is_lavapipe;    // Mesa's CPU driver: wants its own kernel shapes
    uint32_t subgroup_size;  // lanes of every pipeline made here (fixed where the device allows it)
    gboolean subgroup_fixed;         // pipelines ask for subgroup_size explicitly
    uint32_t max_local;              // invocations per workgroup
    uint32_t max_shared;             // bytes of shared memory per workgroup
    uint32_t max_groups[3];          // workgroups per dispatch
    uint64_t max_alloc;              // bytes of one allocation
    float timestamp_ns;              // nanoseconds per timestamp tick, 0 when there are none
    uint32_t caps_have;              // vlm_caps of the hardware and driver
    uint32_t caps;                   // vlm_caps in use: caps_have & the caller's mask
    gboolean full_subgroups;         // workgroups of several subgroups may ask for whole ones
    vlm_coopmat_shape coopmat;       // of the matrix units, 0 without VLM_CAP_COOPMAT
    vlm_coopmat_shape coopmat2;      // what sizes are multiples of with VLM_CAP_COOPMAT2
    gboolean tall_matrices;          // see vlm_device_params
    vlm_external_support imports;    // what can be made a buffer
    uint32_t tuning[VLM_N_TUNABLE];  // by vlm_tunable, see gpu/tuning.h
    PFN_vkGetMemoryHostPointerPropertiesEXT get_host_pointer;  // NULL when pages can't
    PFN_vkGetMemoryFdPropertiesKHR get_memory_fd;              // NULL when DMA-BUFs can't
    gboolean has_budget;  // the driver tells how much memory is free (VK_EXT_memory_budget)

    VkPipelineLayout layout;  // the one layout: 8 bytes of push constants, no descriptors
    VkPipelineCache cache;
    GHashTable *pipelines;  // vlm_kernel by (id, specialization), behind pipelines_lock
    GMutex pipelines_lock;
    char *cache_path;  // where the pipeline cache is kept, NULL when it is not

    gint lost;           // set once a call has reported VK_ERROR_DEVICE_LOST or a timeout
    gint fail_alloc_at;  // fault injection: the allocation with this number fails, 0 = none
    gint fail_submit_at;
    gboolean hide_local;  // for tests: device-local memory is not mapped, as on discrete GPUs
    gint n_alloc;
    gint n_submit;
    gint n_wait;
    gint n_record;  // command buffers that were recorded ...
    gint n_replay;  // ... and submits of ones recorded before
    gint n_pipeline;
    gint n_validation;  // messages from the validation layer
    gint n_dispatch[VLM_N_KERNEL_MAX];
    gsize n_read;           // bytes of weights that were read; atomic
    uint64_t memory_limit;  // of the device's memory that buffers may take; 0 = none
    gint64 bytes_used[8];   // by vlm_memory_use, behind queue_lock
    gint64 bytes_most[8];   // the most there has been of it
} vlm_device;

typedef struct vlm_device_params {
    const char *select;  // NULL or "": the best device; "N": index; else part of the device's name
    uint32_t caps_mask;  // vlm_caps allowed; default 0 = portable kernels only
    gboolean slow_caps;  // also those that CPU drivers have and only slow down by: for checks
    gboolean tall_matrices;  // matrices of 16 rows, as most GPUs have them, also where there are
                             // smaller ones, if VLM_CAP_COOPMAT2 is there: for checks
    gboolean validate;       // load the Khronos validation layer if it is installed
    const char *cache_dir;   // folder of the pipeline cache, NULL = none
} vlm_device_params;

// Opens a device. `params` need only live until return. The best device is the first discrete
// GPU, else integrated, virtual, CPU.
// Errors: NO_DEVICE (no loader, no driver, no such device, a required feature is absent), DRIVER.
vlm_device *vlm_device_create(const vlm_device_params *params, GError **error);

// Saves the pipeline cache and frees everything. Accepts NULL and half-built devices. Buffers
// and commands made from it must be gone.
void vlm_device_destroy(vlm_device *dev);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(vlm_device, vlm_device_destroy)

// Whether a device offers an extension.
gboolean vlm_device_has_extension(VkPhysicalDevice physical, const char *name);

// TRUE for VK_SUCCESS; otherwise sets `error` to "<what>: <name of result>" and, for a lost
// device, marks it. `dev` may be NULL.
gboolean vlm_vk_check(vlm_device *dev, VkResult result, const char *what, GError **error);

#endif
