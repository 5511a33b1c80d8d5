// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/fuzz.h — the entry point that libFuzzer and fuzz_replay.c call.
//
// Looking for new findings, NAME being gguf, tokenizer, hparams or mllama:
//   CC=clang meson setup fuzz -Dfuzzers=true -Db_sanitize=address,undefined -Db_lundef=false
//   ninja -C fuzz tests/libfuzz_NAME
//   fuzz/tests/libfuzz_NAME -dict=tests/fuzz.dict -max_len=45000 NEW tests/corpus/NAME
// NEW is an empty folder that collects inputs; -merge=1 with the two the other way round adds the
// ones that reach more code to the corpus. Their names must end in .bin.
#ifndef VLM_TESTS_FUZZ_H
#define VLM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

// Any crash, abort, sanitizer report or leak is a finding. Returns 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
