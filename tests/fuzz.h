// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz.h — the entry point that libFuzzer and fuzz_replay.c call.
#ifndef VLM_TESTS_FUZZ_H
#define VLM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

// Any crash, abort, sanitizer report or leak is a finding. Returns 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
