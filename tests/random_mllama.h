// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_mllama.h — the Llama 3.2 Vision part of random_model.h, as Ollama's converters write
// such files.
#ifndef VLM_TESTS_RANDOM_MLLAMA_H
#define VLM_TESTS_RANDOM_MLLAMA_H

#include "random_model.h"

// What this family has other than the sizes of the others.
void random_mllama_init(random_model *model);

gguf_writer *random_mllama_text(const random_model *model);
gguf_writer *random_mllama_mmproj(const random_model *model);

#endif
