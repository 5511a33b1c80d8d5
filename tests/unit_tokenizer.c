// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_tokenizer.c — the tokenizer against recorded vectors, and what no recording can show.
#include "model/pretokenizer.h"
#include "model/tokenizer.h"
#include "model/utf8_stream.h"

#include "gguf_writer.h"
#include "random_vocab.h"

#include <string.h>

// --- the vocabulary and the cases of tests/vectors/tokenizer.txt ---------------------------------

typedef struct recording {
    const char *pre;    // pre-tokenizer; NULL: SentencePiece's vocabulary
    GPtrArray *tokens;  // of char *
    GPtrArray *merges;
    GArray *types;     // of int32_t
    GArray *scores;    // of float
    GPtrArray *cases;  // of char **, lines split at blanks that begin with p, t or d
} recording;

static void add_token(recording *r, char *text, int32_t type)
{
    g_ptr_array_add(r->tokens, text);
    g_array_append_val(r->types, type);
}

static gint compare_chars(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

// The byte-level alphabet by code point, which is also the order of its UTF-8.
static void add_alphabet(recording *r)
{
    g_autoptr(random_vocab) vocab = random_vocab_new();

    for (guint i = 0; i < 256; i++)
        add_token(r, g_strdup(g_ptr_array_index(vocab->tokens, i)), 1);
    g_ptr_array_sort(r->tokens, compare_chars);
}

static char *unhex(const char *hex, gsize *len)
{
    const gsize n = g_str_equal(hex, "-") ? 0 : strlen(hex) / 2;
    char *out = g_malloc(n + 1);

    for (gsize i = 0; i < n; i++)
        out[i] =
            (char) (g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
    out[n] = 0;
    *len = n;
    return out;
}

static gboolean has_token(const recording *r, const char *text)
{
    for (guint i = 0; i < r->tokens->len; i++) {
        if (g_str_equal(g_ptr_array_index(r->tokens, i), text))
            return TRUE;
    }
    return FALSE;
}

static void read_line(recording *r, const char *line)
{
    char **words = g_strsplit(line, " ", -1);

    if (line[0] == 'm') {
        const char *left = g_ptr_array_index(r->tokens, g_ascii_strtoull(words[1], NULL, 10));
        const char *right = g_ptr_array_index(r->tokens, g_ascii_strtoull(words[2], NULL, 10));
        char *joined = g_strconcat(left, right, NULL);

        g_ptr_array_add(r->merges, g_strconcat(left, " ", right, NULL));
        if (has_token(r, joined))
            g_free(joined);
        else
            add_token(r, joined, 1);
    } else if (line[0] == 'b') {  // a byte without a token
        const guint64 id = g_ascii_strtoull(words[1], NULL, 10);
        char **token = (char **) &g_ptr_array_index(r->tokens, id);
        g_free(*token);
        *token = g_strdup_printf("[BYTE%u]", (guint) id);
        g_array_index(r->types, int32_t, id) = VLM_TOKEN_UNUSED;
    } else if (line[0] == 'w') {
        gsize len;
        add_token(r, unhex(words[1], &len), 1);
    } else if (line[0] == 'v') {
        const float score = (float) g_ascii_strtod(words[2], NULL);
        gsize len;
        g_array_append_val(r->scores, score);
        add_token(r, unhex(words[3], &len), (int32_t) g_ascii_strtoull(words[1], NULL, 10));
    } else if (line[0] == 's') {
        gsize len;
        add_token(r, unhex(words[2], &len), (int32_t) g_ascii_strtoull(words[1], NULL, 10));
    } else if (line[0] == 'p' || line[0] == 't' || line[0] == 'd') {
        g_ptr_array_add(r->cases, g_steal_pointer(&words));
    }
    g_strfreev(words);
}

static recording *recording_read(const char *pre, const char *file)
{
    recording *r = g_new0(recording, 1);
    g_autofree char *path = g_build_filename(g_getenv("VECTORS_DIR"), file, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    r->pre = pre;
    r->tokens = g_ptr_array_new_with_free_func(g_free);
    r->merges = g_ptr_array_new_with_free_func(g_free);
    r->types = g_array_new(FALSE, FALSE, sizeof(int32_t));
    r->scores = g_array_new(FALSE, FALSE, sizeof(float));
    r->cases = g_ptr_array_new_with_free_func((GDestroyNotify) g_strfreev);
    if (pre)
        add_alphabet(r);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        read_line(r, *line);
    return r;
}

static void recording_free(recording *r)
{
    g_ptr_array_unref(r->tokens);
    g_ptr_array_unref(r->merges);
    g_ptr_array_unref(r->cases);
    g_array_unref(r->types);
    g_array_unref(r->scores);
    g_free(r);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(recording, recording_free)

static vlm_tokenizer *open_tokenizer(const gguf_writer *w)
{
    g_autoptr(GBytes) bytes = gguf_writer_to_bytes(w);
    g_autoptr(GError) error = NULL;
    g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "test", &error);

    g_assert_no_error(error);
    vlm_tokenizer *tok = vlm_tokenizer_new(gguf, &error);
    g_assert_no_error(error);
    return tok;
}

static vlm_tokenizer *recorded_tokenizer(const recording *r)
{
    g_autoptr(gguf_writer) w = gguf_writer_new();

    gguf_writer_str(w, "tokenizer.ggml.model", r->pre ? "gpt2" : "llama");
    if (r->pre)
        gguf_writer_str(w, "tokenizer.ggml.pre", r->pre);
    else
        gguf_writer_f32_array(w, "tokenizer.ggml.scores",
                              (const float *) (const void *) r->scores->data, r->scores->len);
    gguf_writer_str_array(w, "tokenizer.ggml.tokens",
                          (const char *const *) (const void *) r->tokens->pdata, r->tokens->len);
    gguf_writer_i32_array(w, "tokenizer.ggml.token_type",
                          (const int32_t *) (const void *) r->types->data, r->types->len);
    gguf_writer_str_array(w, "tokenizer.ggml.merges",
                          (const char *const *) (const void *) r->merges->pdata, r->merges->len);
    return open_tokenizer(w);
}

static char *ids_text(const GArray *ids)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < ids->len; i++)
        g_string_append_printf(text, "%s%u", i ? " " : "", g_array_index(ids, uint32_t, i));
    return g_string_free(text, FALSE);
}

// A vlm_piece_func: adds the length of the piece to a text.
static gboolean add_length(void *user, const char *piece, size_t len, GError **error)
{
    GString *lengths = user;

    (void) piece;
    (void) error;
    g_string_append_printf(lengths, "%s%" G_GSIZE_FORMAT, lengths->len ? " " : "", len);
    return TRUE;
}

static void check_pieces(const char *name, char **words)
{
    g_autoptr(vlm_pretokenizer) pre = vlm_pretokenizer_new(name, NULL);
    g_autoptr(GString) got = g_string_new(NULL);
    g_autofree char *expected = g_strjoinv(" ", words + 2);
    gsize len;
    g_autofree char *text = unhex(words[1], &len);

    g_assert_true(vlm_pretokenizer_cut(pre, text, len, add_length, got, NULL));
    g_assert_cmpstr(got->str, ==, expected);
}

static void check_encode(const vlm_tokenizer *tok, char **words)
{
    gsize len;
    g_autofree char *text = unhex(words[1], &len);
    g_autofree char *expected = g_strjoinv(" ", words + 2);
    g_autoptr(GArray) ids = vlm_tokenizer_encode(tok, text, (gssize) len, TRUE, NULL);
    g_autofree char *got = ids_text(ids);

    if (!g_str_equal(got, expected))
        g_test_message("text %s", words[1]);
    g_assert_cmpstr(got, ==, expected);
}

static void check_decode(const vlm_tokenizer *tok, char **words)
{
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    guint w = 1;
    gsize len;

    for (; !g_str_equal(words[w], "="); w++) {
        const uint32_t id = (uint32_t) g_ascii_strtoull(words[w], NULL, 10);
        g_array_append_val(ids, id);
    }
    g_autofree char *expected = unhex(words[w + 1], &len);
    g_autofree char *got =
        vlm_tokenizer_decode(tok, (const uint32_t *) (const void *) ids->data, ids->len, TRUE);

    g_assert_cmpstr(got, ==, expected);
}

static void check_recording(const char *pre, const char *file)
{
    g_autoptr(recording) r = recording_read(pre, file);
    g_autoptr(vlm_tokenizer) tok = recorded_tokenizer(r);
    guint n_piece = 0, n_text = 0, n_decode = 0;

    for (guint i = 0; i < r->cases->len; i++) {
        char **words = g_ptr_array_index(r->cases, i);

        if (words[0][0] == 'p') {
            check_pieces(r->pre, words);
            n_piece++;
        } else if (words[0][0] == 't') {
            check_encode(tok, words);
            n_text++;
        } else {
            check_decode(tok, words);
            n_decode++;
        }
    }
    g_assert_true(pre ? n_piece > 30 : n_piece == 0);
    g_assert_cmpuint(n_text, >, 300);
    g_assert_cmpuint(n_decode, >, 50);
}

static void test_vectors(void)
{
    check_recording("qwen2", "tokenizer.txt");
}

static void test_vectors_qwen35(void)
{
    check_recording("qwen35", "tokenizer-qwen35.txt");
}

static void test_vectors_smollm(void)
{
    check_recording("smollm", "tokenizer-smollm.txt");
}

// The first rules of the published vocabulary, and the bytes that it lacks.
static void test_vectors_smollm2(void)
{
    check_recording("smollm", "tokenizer-smollm2.txt");
}

static void test_vectors_llama(void)
{
    check_recording("llama-bpe", "tokenizer-llama-bpe.txt");
}

static void test_vectors_spm(void)
{
    check_recording(NULL, "tokenizer-spm.txt");
}

// --- behaviour -----------------------------------------------------------------------------------

static vlm_tokenizer *random_tokenizer(void)
{
    g_autoptr(random_vocab) vocab = random_vocab_new();
    g_autoptr(gguf_writer) w = gguf_writer_new();

    random_vocab_add(vocab, w);
    return open_tokenizer(w);
}

// Published vocabularies have no token for some bytes: they are passed over, as if a text did not
// have them (SmolLM2's lacks 04, 1d, c0, f1 and others).
static void test_missing_bytes(void)
{
    static const struct {
        const char *text, *same;
    } rows[] = {
        { "\x04", "" },
        { "the\x04re", "there" },
        { "\x04\x04 the \x04", " the " },
        { "a\U00040000b", NULL },  // f1 80 80 80
    };
    g_autoptr(random_vocab) vocab = random_vocab_new();
    g_autoptr(gguf_writer) w = gguf_writer_new();
    g_autoptr(GError) error = NULL;
    guint n_gone = 0;

    for (guint i = 0; i < 256; i++) {
        char **token = (char **) &g_ptr_array_index(vocab->tokens, i);
        const gunichar c = g_utf8_get_char(*token);
        if (c != 0x104 && c != 0xf1)  // what stands for 04, and f1
            continue;
        g_free(*token);
        *token = g_strdup_printf("gone%u", n_gone++);
    }
    g_assert_cmpuint(n_gone, ==, 2);
    random_vocab_add(vocab, w);
    g_autoptr(vlm_tokenizer) tok = open_tokenizer(w);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GArray) got = vlm_tokenizer_encode(tok, rows[i].text, -1, FALSE, &error);
        g_assert_no_error(error);
        if (!rows[i].same) {
            g_assert_cmpuint(got->len, ==, 5);
            continue;
        }
        g_autoptr(GArray) want = vlm_tokenizer_encode(tok, rows[i].same, -1, FALSE, &error);
        g_assert_cmpmem(got->data, got->len * 4, want->data, want->len * 4);
    }
}

static vlm_tokenizer *llava_tokenizer(const char *key, gboolean value)
{
    g_autoptr(random_vocab) vocab = random_vocab_new_llava();
    g_autoptr(gguf_writer) w = gguf_writer_new();

    random_vocab_add(vocab, w);
    if (key)
        gguf_writer_bool(w, key, value);
    return open_tokenizer(w);
}

static uint32_t id_of(const vlm_tokenizer *tok, const char *text)
{
    uint32_t id = 0;

    g_assert_true(vlm_tokenizer_find(tok, text, &id));
    return id;
}

static guint count_id(const GArray *ids, uint32_t id)
{
    guint n = 0;

    for (guint i = 0; i < ids->len; i++)
        n += g_array_index(ids, uint32_t, i) == id;
    return n;
}

static void test_specials(void)
{
    static const char text[] = "a<|im_end|><think>b";
    g_autoptr(vlm_tokenizer) tok = random_tokenizer();
    g_autoptr(GArray) with = vlm_tokenizer_encode(tok, text, -1, TRUE, NULL);
    g_autoptr(GArray) without = vlm_tokenizer_encode(tok, text, -1, FALSE, NULL);
    const uint32_t *ids = (const uint32_t *) (const void *) with->data;

    g_assert_cmpuint(with->len, ==, 4);
    g_assert_cmpuint(count_id(with, id_of(tok, "<|im_end|>")), ==, 1);
    // Text from outside cannot make a control token, but user-defined ones are text.
    g_assert_cmpuint(count_id(without, id_of(tok, "<|im_end|>")), ==, 0);
    g_assert_cmpuint(count_id(without, id_of(tok, "<think>")), ==, 1);
    g_autofree char *kept = vlm_tokenizer_decode(tok, ids, with->len, TRUE);
    g_autofree char *dropped = vlm_tokenizer_decode(tok, ids, with->len, FALSE);
    g_assert_cmpstr(kept, ==, text);
    g_assert_cmpstr(dropped, ==, "a<think>b");
    g_assert_cmpint(vlm_tokenizer_type(tok, id_of(tok, "<think>")), ==, VLM_TOKEN_USER_DEFINED);
    g_assert_cmpint(vlm_tokenizer_type(tok, UINT32_MAX), ==, VLM_TOKEN_UNKNOWN);
}

// Control tokens are recognised in the protocol's part of a turn only; a blank is put before the
// text, but not before one that continues, and not between both.
static void test_turn(void)
{
    g_autoptr(vlm_tokenizer) tok = llava_tokenizer(NULL, FALSE);
    g_autoptr(GArray) whole = vlm_tokenizer_encode(tok, "Look at  this ASSISTANT:", -1, TRUE, NULL);
    g_autoptr(GArray) turn = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GArray) next = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GArray) hostile = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    const uint32_t end = id_of(tok, "</s>");

    g_assert_true(
        vlm_tokenizer_append_turn(tok, "Look at  ", "this ASSISTANT:", FALSE, turn, NULL));
    g_assert_true(
        vlm_tokenizer_append_turn(tok, " Look at  this", " ASSISTANT:", TRUE, next, NULL));
    g_assert_cmpmem(turn->data, turn->len * 4, whole->data, whole->len * 4);
    g_assert_cmpmem(next->data, next->len * 4, whole->data, whole->len * 4);
    g_assert_true(vlm_tokenizer_append_turn(tok, "</s> a</", "s></s>", FALSE, hostile, NULL));
    g_assert_cmpuint(count_id(hostile, end), ==, 1);
    g_assert_cmpuint(g_array_index(hostile, uint32_t, hostile->len - 1), ==, end);
}

// What files may leave out, and what they may ask for.
static void test_start(void)
{
    static const char bos[] = "tokenizer.ggml.add_bos_token";
    g_autoptr(vlm_tokenizer) old = llava_tokenizer(NULL, FALSE);
    g_autoptr(vlm_tokenizer) without = llava_tokenizer(bos, FALSE);
    g_autoptr(vlm_tokenizer) bare = llava_tokenizer("tokenizer.ggml.add_space_prefix", FALSE);
    g_autoptr(vlm_tokenizer) qwen = random_tokenizer();
    g_autoptr(GArray) ids = vlm_tokenizer_encode(bare, "a b", -1, FALSE, NULL);
    const uint32_t *two = (const uint32_t *) (const void *) ids->data;
    uint32_t id = 0;

    g_assert_true(vlm_tokenizer_start(old, &id));
    g_assert_cmpuint(id, ==, id_of(old, "<s>"));
    g_assert_false(vlm_tokenizer_start(without, &id));
    g_assert_false(vlm_tokenizer_start(qwen, &id));
    g_assert_cmpuint(two[0], ==, id_of(bare, "a"));
    g_autofree char *back = vlm_tokenizer_decode(bare, two, ids->len, FALSE);
    g_assert_cmpstr(back, ==, "a b");
    // with the prefix, one blank is taken away, behind what is no text as well
    const uint32_t some[] = { id_of(old, "<s>"), id_of(old, "\xe2\x96\x81"), id_of(old, "a"),
                              id_of(old, "\xe2\x96\x81"), id_of(old, "a") };
    g_autofree char *text = vlm_tokenizer_decode(old, some, G_N_ELEMENTS(some), FALSE);
    g_assert_cmpstr(text, ==, "a a");
}

static void test_ends(void)
{
    g_autoptr(vlm_tokenizer) tok = random_tokenizer();
    guint n;
    const uint32_t *ends = vlm_tokenizer_end_ids(tok, &n);

    g_assert_cmpuint(n, ==, 2);
    g_assert_nonnull(ends);
    g_assert_true(vlm_tokenizer_is_end(tok, id_of(tok, "<|im_end|>")));
    g_assert_true(vlm_tokenizer_is_end(tok, id_of(tok, "<|endoftext|>")));
    g_assert_false(vlm_tokenizer_is_end(tok, id_of(tok, "<|im_start|>")));
    g_assert_false(vlm_tokenizer_is_end(tok, UINT32_MAX));
}

// What comes back from encoding and decoding bytes that are not text.
static void assert_round_trip(const vlm_tokenizer *tok, const char *bytes, gssize len,
                              const char *expected)
{
    g_autoptr(GArray) ids = vlm_tokenizer_encode(tok, bytes, len, FALSE, NULL);
    g_autofree char *text =
        vlm_tokenizer_decode(tok, (const uint32_t *) (const void *) ids->data, ids->len, TRUE);

    g_assert_cmpstr(text, ==, expected);
}

static void check_invalid_utf8(const vlm_tokenizer *tok)
{
    assert_round_trip(tok,
                      "a\xff"
                      "b",
                      -1,
                      "a\xef\xbf\xbd"
                      "b");
    // One replacement per maximal ill-formed part: three bytes of a cut sequence are one.
    assert_round_trip(tok, "\xf0\x9f\x90", -1, "\xef\xbf\xbd");
    assert_round_trip(tok, "\xf0\x9f\x90!", -1, "\xef\xbf\xbd!");
    // A surrogate, an overlong form and a value above U+10FFFF fall apart into single bytes.
    assert_round_trip(tok, "\xed\xa0\x80", -1, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_round_trip(tok, "\xc0\xaf", -1, "\xef\xbf\xbd\xef\xbf\xbd");
    assert_round_trip(tok, "\xf4\x90", -1, "\xef\xbf\xbd\xef\xbf\xbd");
    assert_round_trip(tok, "", -1, "");
}

static void test_invalid_utf8(void)
{
    g_autoptr(vlm_tokenizer) bytes = random_tokenizer();
    g_autoptr(vlm_tokenizer) pieces = llava_tokenizer(NULL, FALSE);

    check_invalid_utf8(bytes);
    check_invalid_utf8(pieces);
}

static void test_zero_byte(void)
{
    g_autoptr(vlm_tokenizer) tok = random_tokenizer();
    g_autoptr(GArray) ids = vlm_tokenizer_encode(tok, "a\0b", 3, TRUE, NULL);
    size_t len;

    g_assert_cmpuint(ids->len, ==, 3);
    const char *bytes = vlm_tokenizer_bytes(tok, g_array_index(ids, uint32_t, 1), TRUE, &len);
    g_assert_cmpuint(len, ==, 1);
    g_assert_true(bytes[0] == 0);
    vlm_tokenizer_bytes(tok, vlm_tokenizer_n_vocab(tok), FALSE, &len);
    g_assert_cmpuint(len, ==, 0);
}

// A code point never leaves the stream before it is complete, whatever the cuts are.
static void test_stream(void)
{
    static const char text[] = "a\xc3\xa9\xea\xb3\xa0\xf0\x9f\x90\x88\xff"
                               "z\xe2\x82";
    static const char expected[] = "a\xc3\xa9\xea\xb3\xa0\xf0\x9f\x90\x88\xef\xbf\xbdz\xef\xbf\xbd";

    for (gsize step = 1; step < sizeof text; step++) {
        g_autoptr(GString) out = g_string_new(NULL);
        vlm_utf8_stream stream = { .n_pending = 0 };

        for (gsize i = 0; i < sizeof text - 1; i += step) {
            vlm_utf8_stream_push(&stream, text + i, MIN(step, sizeof text - 1 - i), out);
            g_assert_true(g_utf8_validate(out->str, (gssize) out->len, NULL));
        }
        vlm_utf8_stream_finish(&stream, out);
        g_assert_cmpstr(out->str, ==, expected);
    }
}

// Runs that are quadratic or deep for a careless implementation. No timing: a careless one would
// not finish within the patience of the test runner.
static void test_long_runs(void)
{
    static const char *const units[] = {
        " ",
        "\n",
        " \n",
        "a",
        "ab",
        "\xe3\x80\x80",
        "\xcc\x81",
        "\xcc\xa3\xcc\x81",
        "<|im_start|",
        "'s",
        "1",
        ".",
        "\xea\xb0\x80",
        "\xff",
        "the ",
    };
    g_autoptr(vlm_tokenizer) bytes = random_tokenizer();
    g_autoptr(vlm_tokenizer) pieces = llava_tokenizer(NULL, FALSE);

    for (guint u = 0; u < 2 * G_N_ELEMENTS(units); u++) {
        const char *unit = units[u / 2];
        const vlm_tokenizer *tok = u % 2 ? pieces : bytes;
        g_autoptr(GString) text = g_string_new(NULL);
        g_autoptr(GError) error = NULL;

        while (text->len < 1 << 18)
            g_string_append(text, unit);
        g_autoptr(GArray) ids =
            vlm_tokenizer_encode(tok, text->str, (gssize) text->len, TRUE, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(ids->len, >, 0);
    }
}

static void test_too_long(void)
{
    g_autoptr(vlm_tokenizer) tok = random_tokenizer();
    g_autofree char *text = g_malloc0(VLM_TOKENIZER_MAX_TEXT_BYTES + 1);
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GError) error = NULL;

    g_assert_false(
        vlm_tokenizer_append(tok, text, VLM_TOKENIZER_MAX_TEXT_BYTES + 1, FALSE, ids, &error));
    g_assert_error(error, VLM_ERROR, VLM_ERROR_ARGS);
    g_assert_cmpuint(ids->len, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tokenizer/vectors", test_vectors);
    g_test_add_func("/tokenizer/vectors-qwen35", test_vectors_qwen35);
    g_test_add_func("/tokenizer/vectors-smollm", test_vectors_smollm);
    g_test_add_func("/tokenizer/vectors-smollm2", test_vectors_smollm2);
    g_test_add_func("/tokenizer/vectors-llama", test_vectors_llama);
    g_test_add_func("/tokenizer/vectors-spm", test_vectors_spm);
    g_test_add_func("/tokenizer/specials", test_specials);
    g_test_add_func("/tokenizer/turn", test_turn);
    g_test_add_func("/tokenizer/start", test_start);
    g_test_add_func("/tokenizer/ends", test_ends);
    g_test_add_func("/tokenizer/invalid-utf8", test_invalid_utf8);
    g_test_add_func("/tokenizer/zero-byte", test_zero_byte);
    g_test_add_func("/tokenizer/missing-bytes", test_missing_bytes);
    g_test_add_func("/tokenizer/stream", test_stream);
    g_test_add_func("/tokenizer/long-runs", test_long_runs);
    g_test_add_func("/tokenizer/too-long", test_too_long);
    return g_test_run();
}
