// SPDX-License-Identifier: LGPL-2.1-or-later
// tests/random_vocab.c — trains a small BPE vocabulary on a few sentences.
//
// Plain byte-pair encoding: of all pairs of neighbours inside words the most frequent one is
// merged, ties go to the pair met first.
#include "random_vocab.h"

#include <string.h>

#define MAX_MERGES 448

enum {
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN = 2,
    TYPE_CONTROL = 3,
    TYPE_USER_DEFINED = 4,
    TYPE_UNUSED = 5,
    TYPE_BYTE = 6
};

static const char corpus[] =
    "A large red circle moves left past a small green square on a striped background. A medium "
    "blue triangle appears and moves right over a noisy background. The yellow star grows while "
    "the purple digit seven leaves the frame. Two small orange squares move up and one white "
    "circle changes colour from red to blue. Which colour was the first shape? How many circles "
    "are there? What is in the picture? Describe this video in detail. There are three objects. "
    "A man walks in the street with a red car. The quick brown fox jumps over the lazy dog. You "
    "are a helpful assistant. Answer in one sentence. Frame image video seconds user system "
    "assistant 0123456789 <0.2 seconds><1.2 seconds><2.0 seconds>\n\n"
    "Caf\xc3\xa9 na\xc3\xafve fa\xc3\xa7"
    "ade \xc3\xbc"
    "ber stra\xc3\x9f"
    "e; "
    "\xea\xb3\xa0\xec\x96\x91\xec\x9d\xb4 \xe7\x8c\xab \xe7\x8c\xab \xf0\x9f\x90\x88 "
    "\xd0\xba\xd0\xbe\xd1\x88\xd0\xba\xd0\xb0.\n\n"
    "    int main(void)\n    {\n        return 0;\n    }\n\n\n";

static const struct {
    const char *text;
    int32_t type;
} specials[] = {
    { "<|endoftext|>", TYPE_CONTROL },        { "<|im_start|>", TYPE_CONTROL },
    { "<|im_end|>", TYPE_CONTROL },           { "<|object_ref_start|>", TYPE_CONTROL },
    { "<|object_ref_end|>", TYPE_CONTROL },   { "<|box_start|>", TYPE_CONTROL },
    { "<|box_end|>", TYPE_CONTROL },          { "<|quad_start|>", TYPE_CONTROL },
    { "<|quad_end|>", TYPE_CONTROL },         { "<|vision_start|>", TYPE_CONTROL },
    { "<|vision_end|>", TYPE_CONTROL },       { "<|vision_pad|>", TYPE_CONTROL },
    { "<|image_pad|>", TYPE_CONTROL },        { "<|video_pad|>", TYPE_CONTROL },
    { "<tool_call>", TYPE_USER_DEFINED },     { "</tool_call>", TYPE_USER_DEFINED },
    { "<|fim_prefix|>", TYPE_CONTROL },       { "<|fim_middle|>", TYPE_CONTROL },
    { "<|fim_suffix|>", TYPE_CONTROL },       { "<|fim_pad|>", TYPE_CONTROL },
    { "<|repo_name|>", TYPE_CONTROL },        { "<|file_sep|>", TYPE_CONTROL },
    { "<tool_response>", TYPE_USER_DEFINED }, { "</tool_response>", TYPE_USER_DEFINED },
    { "<think>", TYPE_USER_DEFINED },         { "</think>", TYPE_USER_DEFINED },
};

// SmolVLM's; those of tiles follow.
static const char *const smol_specials[] = { "<|endoftext|>",      "<|im_start|>",
                                             "<end_of_utterance>", "<fake_token_around_image>",
                                             "<global-img>",       "<image>" };
#define MAX_TILES 6

// Llama 3's; that of pictures is the very last.
static const char *const llama_specials[] = { "<|begin_of_text|>",   "<|end_of_text|>",
                                              "<|start_header_id|>", "<|end_header_id|>",
                                              "<|eom_id|>",          "<|eot_id|>",
                                              "<|python_tag|>" };
// In vocabularies of the family there are tokens that the merges don't make.
#define UNMERGED "zqxjk"

typedef enum vocab_kind { KIND_QWEN, KIND_SMOL, KIND_LLAMA3, KIND_LLAVA, N_VOCAB_KIND } vocab_kind;

// The character that stands for a byte: printable bytes for themselves, the others from U+0100.
static gunichar byte_char(guint byte)
{
    guint next = 256;

    for (guint b = 0; b < 256; b++) {
        const gboolean printable =
            (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        const gunichar c = printable ? b : next++;
        if (b == byte)
            return c;
    }
    g_assert_not_reached();
}

static char *byte_text(guint byte)
{
    char text[7] = { 0 };

    g_unichar_to_utf8(byte_char(byte), text);
    return g_strdup(text);
}

// The corpus as tokens with a word border (-1) before each blank-led word.
static GArray *corpus_symbols(void)
{
    GArray *symbols = g_array_new(FALSE, FALSE, sizeof(int32_t));
    const int32_t border = -1;

    for (gsize i = 0; i + 1 < sizeof corpus; i++) {
        const int32_t byte = (guint8) corpus[i];
        const gboolean blank = corpus[i] == ' ' || corpus[i] == '\n';
        const gboolean was_blank = i > 0 && (corpus[i - 1] == ' ' || corpus[i - 1] == '\n');

        if (blank ? !was_blank : g_ascii_ispunct(corpus[i]) || g_ascii_isdigit(corpus[i]))
            g_array_append_val(symbols, border);
        g_array_append_val(symbols, byte);
    }
    return symbols;
}

// The most frequent pair of neighbours, or FALSE when there is none.
static gboolean best_pair(const GArray *symbols, int32_t *left, int32_t *right)
{
    g_autoptr(GHashTable) counts = g_hash_table_new(g_direct_hash, g_direct_equal);
    const int32_t *s = (const int32_t *) (const void *) symbols->data;
    guint best = 0;
    gsize best_key = 0;

    for (guint i = 0; i + 1 < symbols->len; i++) {
        if (s[i] >= 0 && s[i + 1] >= 0) {
            const gpointer key = GSIZE_TO_POINTER((gsize) s[i] << 16 | (gsize) s[i + 1]);
            const guint n = GPOINTER_TO_UINT(g_hash_table_lookup(counts, key)) + 1;
            g_hash_table_insert(counts, key, GUINT_TO_POINTER(n));
        }
    }
    for (guint i = 0; i + 1 < symbols->len; i++) {
        if (s[i] >= 0 && s[i + 1] >= 0) {
            const gsize key = (gsize) s[i] << 16 | (gsize) s[i + 1];
            const guint n = GPOINTER_TO_UINT(g_hash_table_lookup(counts, GSIZE_TO_POINTER(key)));
            if (n > best) {
                best = n;
                best_key = key;
            }
        }
    }
    *left = (int32_t) (best_key >> 16);
    *right = (int32_t) (best_key & 0xffff);
    return best > 0;
}

static void merge_pair(GArray *symbols, int32_t left, int32_t right, int32_t merged)
{
    int32_t *s = (int32_t *) (void *) symbols->data;
    guint used = 0;

    for (guint i = 0; i < symbols->len; i++) {
        if (i + 1 < symbols->len && s[i] == left && s[i + 1] == right) {
            s[used++] = merged;
            i++;
        } else {
            s[used++] = s[i];
        }
    }
    g_array_set_size(symbols, used);
}

static void add_token(random_vocab *v, char *text, int32_t type)
{
    g_ptr_array_add(v->tokens, text);
    g_array_append_val(v->types, type);
}

static void add_scored(random_vocab *v, char *text, int32_t type, float score)
{
    add_token(v, text, type);
    g_array_append_val(v->scores, score);
}

void random_vocab_pad(random_vocab *v, uint32_t n)
{
    const float never = -1000;

    while (v->tokens->len < n) {
        add_token(v, g_strdup_printf("[PAD%u]", v->tokens->len), TYPE_UNUSED);
        if (v->scores)
            g_array_append_val(v->scores, never);
    }
}

static void add_all(random_vocab *v, const char *const *names, guint n)
{
    for (guint i = 0; i < n; i++)
        add_token(v, g_strdup(names[i]), TYPE_CONTROL);
}

static void add_specials(random_vocab *v, vocab_kind kind)
{
    v->pre = "qwen2";
    v->end = "<|im_end|>";
    v->pad = "<|endoftext|>";
    if (kind == KIND_QWEN) {
        for (guint i = 0; i < G_N_ELEMENTS(specials); i++)
            add_token(v, g_strdup(specials[i].text), specials[i].type);
    } else if (kind == KIND_SMOL) {
        v->pre = "smollm";
        v->end = "<end_of_utterance>";
        add_all(v, smol_specials, G_N_ELEMENTS(smol_specials));
        for (guint i = 0; i < MAX_TILES * MAX_TILES; i++)
            add_token(v, g_strdup_printf("<row_%u_col_%u>", i / MAX_TILES + 1, i % MAX_TILES + 1),
                      TYPE_CONTROL);
    } else {
        v->pre = "llama-bpe";
        v->end = "<|eot_id|>";
        v->bos = "<|begin_of_text|>";
        v->pad = "<|end_of_text|>";
        add_token(v, g_strdup(UNMERGED), TYPE_NORMAL);
        add_all(v, llama_specials, G_N_ELEMENTS(llama_specials));
    }
}

// Training takes a while under the sanitizers, so it is done once and copied.
static random_vocab *train(vocab_kind kind)
{
    random_vocab *v = g_new0(random_vocab, 1);
    g_autoptr(GArray) symbols = corpus_symbols();
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);

    v->tokens = g_ptr_array_new_with_free_func(g_free);
    v->merges = g_ptr_array_new_with_free_func(g_free);
    v->types = g_array_new(FALSE, FALSE, sizeof(int32_t));
    for (guint b = 0; b < 256; b++)
        add_token(v, byte_text(b), TYPE_NORMAL);
    for (guint i = 0; i < MAX_MERGES; i++) {
        int32_t left, right;

        if (!best_pair(symbols, &left, &right))
            break;
        const char *l = g_ptr_array_index(v->tokens, left);
        const char *r = g_ptr_array_index(v->tokens, right);
        g_autofree char *text = g_strconcat(l, r, NULL);
        guint id = GPOINTER_TO_UINT(g_hash_table_lookup(ids, text));

        g_ptr_array_add(v->merges, g_strconcat(l, " ", r, NULL));
        if (id == 0) {  // else this text was reached before, by another split
            id = v->tokens->len;
            add_token(v, g_strdup(text), TYPE_NORMAL);
            g_hash_table_insert(ids, g_ptr_array_index(v->tokens, id), GUINT_TO_POINTER(id));
        }
        merge_pair(symbols, left, right, (int32_t) id);
    }
    add_specials(v, kind);
    random_vocab_pad(v, (v->tokens->len + (kind == KIND_LLAMA3) + 63) / 64 * 64
                            - (kind == KIND_LLAMA3));
    if (kind == KIND_LLAMA3)
        add_token(v, g_strdup("<|image|>"), TYPE_CONTROL);
    return v;
}

// The corpus as indices of characters, which are added to `texts`, a blank as U+2581; a word border
// (-1) before each blank and between lines.
static GArray *corpus_chars(GPtrArray *texts)
{
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);
    GArray *symbols = g_array_new(FALSE, FALSE, sizeof(int32_t));
    const int32_t border = -1;

    for (const char *p = corpus; *p; p = g_utf8_next_char(p)) {
        g_autofree char *text =
            *p == ' ' ? g_strdup("\xe2\x96\x81") : g_strndup(p, (gsize) (g_utf8_next_char(p) - p));
        int32_t id = (int32_t) GPOINTER_TO_UINT(g_hash_table_lookup(ids, text)) - 1;

        if (*p == ' ' || *p == '\n')
            g_array_append_val(symbols, border);
        if (*p == '\n')
            continue;  // falls back to a byte, as in published vocabularies
        if (id < 0) {
            id = (int32_t) texts->len;
            g_ptr_array_add(texts, g_steal_pointer(&text));
            g_hash_table_insert(ids, g_ptr_array_index(texts, id), GUINT_TO_POINTER(id + 1));
        }
        g_array_append_val(symbols, id);
    }
    return symbols;
}

// Joined tokens score by rank, characters less. Runs of blanks are joined first, as in published
// vocabularies.
static random_vocab *train_llava(void)
{
    static const char *const controls[] = { "<s>", "</s>" };
    random_vocab *v = g_new0(random_vocab, 1);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GArray) symbols = corpus_chars(texts);
    const guint n_char = texts->len;
    float score = 0;

    v->tokens = g_ptr_array_new_with_free_func(g_free);
    v->merges = g_ptr_array_new_with_free_func(g_free);
    v->types = g_array_new(FALSE, FALSE, sizeof(int32_t));
    v->scores = g_array_new(FALSE, FALSE, sizeof(float));
    v->end = "</s>";
    add_scored(v, g_strdup("<unk>"), TYPE_UNKNOWN, 0);
    for (guint i = 0; i < G_N_ELEMENTS(controls); i++)
        add_scored(v, g_strdup(controls[i]), TYPE_CONTROL, 0);
    for (guint b = 0; b < 256; b++)
        add_scored(v, g_strdup_printf("<0x%02X>", b), TYPE_BYTE, 0);
    for (guint n = 2; n <= 16; n *= 2) {
        GString *run = g_string_new(NULL);
        for (guint i = 0; i < n; i++)
            g_string_append(run, "\xe2\x96\x81");
        add_scored(v, g_string_free(run, FALSE), TYPE_NORMAL, score--);
    }
    for (guint i = 0; i < MAX_MERGES; i++) {
        int32_t left, right;

        if (!best_pair(symbols, &left, &right))
            break;
        char *text =
            g_strconcat(g_ptr_array_index(texts, left), g_ptr_array_index(texts, right), NULL);
        merge_pair(symbols, left, right, (int32_t) texts->len);
        g_ptr_array_add(texts, text);
        if (g_hash_table_add(seen, text))  // else reached before, by another split
            add_scored(v, g_strdup(text), TYPE_NORMAL, score--);
    }
    for (guint i = 0; i < n_char; i++)
        add_scored(v, g_strdup(g_ptr_array_index(texts, i)), TYPE_NORMAL, score--);
    add_scored(v, g_strdup("<image>"), TYPE_CONTROL, 0);
    random_vocab_pad(v, (v->tokens->len + 63) / 64 * 64);
    return v;
}

static gpointer copy_text(gconstpointer text, gpointer user)
{
    (void) user;
    return g_strdup(text);
}

static random_vocab *copy_trained(vocab_kind kind)
{
    static gsize all[N_VOCAB_KIND];
    gsize *trained = &all[kind];

    if (g_once_init_enter(trained))
        g_once_init_leave(trained, (gsize) (kind == KIND_LLAVA ? train_llava() : train(kind)));
    const random_vocab *from = (const random_vocab *) *trained;
    random_vocab *v = g_new0(random_vocab, 1);
    v->tokens = g_ptr_array_copy(from->tokens, copy_text, NULL);
    v->merges = g_ptr_array_copy(from->merges, copy_text, NULL);
    g_ptr_array_set_free_func(v->tokens, g_free);
    g_ptr_array_set_free_func(v->merges, g_free);
    v->types = g_array_copy(from->types);
    v->scores = from->scores ? g_array_copy(from->scores) : NULL;
    v->pre = from->pre;
    v->end = from->end;
    v->bos = from->bos;
    v->pad = from->pad;
    return v;
}

random_vocab *random_vocab_new(void)
{
    return copy_trained(KIND_QWEN);
}

random_vocab *random_vocab_new_smolvlm(void)
{
    return copy_trained(KIND_SMOL);
}

random_vocab *random_vocab_new_llama3(void)
{
    return copy_trained(KIND_LLAMA3);
}

random_vocab *random_vocab_new_llava(void)
{
    return copy_trained(KIND_LLAVA);
}

void random_vocab_free(random_vocab *vocab)
{
    if (!vocab)
        return;
    g_ptr_array_unref(vocab->tokens);
    g_ptr_array_unref(vocab->merges);
    g_array_unref(vocab->types);
    g_clear_pointer(&vocab->scores, g_array_unref);
    g_free(vocab);
}

uint32_t random_vocab_id(const random_vocab *vocab, const char *text)
{
    for (guint i = 0; i < vocab->tokens->len; i++) {
        if (g_str_equal(g_ptr_array_index(vocab->tokens, i), text))
            return i;
    }
    g_error("no token %s", text);
}

static void add_tokens(const random_vocab *vocab, gguf_writer *w)
{
    gguf_writer_str_array(w, "tokenizer.ggml.tokens",
                          (const char *const *) (const void *) vocab->tokens->pdata,
                          vocab->tokens->len);
    gguf_writer_i32_array(w, "tokenizer.ggml.token_type",
                          (const int32_t *) (const void *) vocab->types->data, vocab->types->len);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", random_vocab_id(vocab, vocab->end));
}

void random_vocab_add(const random_vocab *vocab, gguf_writer *w)
{
    if (vocab->scores) {  // with the few keys that old files have
        gguf_writer_str(w, "tokenizer.ggml.model", "llama");
        add_tokens(vocab, w);
        gguf_writer_f32_array(w, "tokenizer.ggml.scores",
                              (const float *) (const void *) vocab->scores->data,
                              vocab->scores->len);
        gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", random_vocab_id(vocab, "<s>"));
        return;
    }
    gguf_writer_str(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_str(w, "tokenizer.ggml.pre", vocab->pre);
    add_tokens(vocab, w);
    gguf_writer_str_array(w, "tokenizer.ggml.merges",
                          (const char *const *) (const void *) vocab->merges->pdata,
                          vocab->merges->len);
    gguf_writer_u32(w, "tokenizer.ggml.padding_token_id", random_vocab_id(vocab, vocab->pad));
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id",
                    random_vocab_id(vocab, vocab->bos ? vocab->bos : vocab->pad));
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", vocab->bos != NULL);
    gguf_writer_str(w, "tokenizer.chat_template",
                    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                    "{%- endfor %}<|im_start|>assistant\n");
}
