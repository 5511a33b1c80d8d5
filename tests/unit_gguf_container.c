// SPDX-License-Identifier: LGPL-2.1-or-later
// unit_gguf_container.c — malformed GGUF containers, each with the error that it must give.
//
// A file is written as a script of words: "H:T:K" is magic, version 3, T tensors, K pairs;
// "4:N" and "8:N" are numbers of that many bytes; "s:TEXT" is a length and its bytes; "S:N" the
// same with N times 'x'; "b:HEX" raw bytes; "0:N" zeros. "P" is a sound pair, "T" a sound tensor
// entry of 4 F32 at offset 0, and "D" pads to a multiple of 32 and adds 32 bytes of data.
#include "model/gguf.h"

#include "base/number.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *id, *script, *error;
} cases[] = {
    // Header
    { "B01 bad magic", "b:47475558 4:3 8:0 8:0", "not a GGUF file" },
    { "empty file", "", "not a GGUF file" },
    { "half a magic", "b:4747", "not a GGUF file" },
    { "B02 version 0", "b:47475546 4:0 8:0 8:0",
      "GGUF version 0 is not supported, only 2 and 3 are" },
    { "B03 version 1", "b:47475546 4:1 4:0 4:0",
      "GGUF version 1 is too old, convert the model again" },
    { "B05 version 4", "b:47475546 4:4 8:0 8:0",
      "GGUF version 4 is not supported, only 2 and 3 are" },
    { "B06 big-endian", "b:47475546 b:00000003 8:0 8:0",
      "big-endian GGUF files are not supported, convert the model again as little-endian" },
    { "no version", "b:47475546 b:03",
      "file is truncated: the header needs 4 bytes at byte 4, 1 are left" },
    { "no counts", "b:47475546 4:3 8:0",
      "file is truncated: the header needs 8 bytes at byte 16, 0 are left" },
    { "B07 n_tensors -1", "H:-1:0",
      "header declares 18446744073709551615 tensors, at most 65536 are allowed" },
    { "B08 n_kv -1", "H:0:-1",
      "header declares 18446744073709551615 key-value pairs, at most 4096 are allowed" },
    { "n_kv of a tiny file", "H:0:4096",
      "file is truncated: what the header declares needs 57344 bytes at byte 24, 0 are left" },
    { "n_tensors of a tiny file", "H:65536:0",
      "file is truncated: what the header declares needs 2162688 bytes at byte 24, 0 are left" },
    { "metadata missing", "H:0:1",
      "file is truncated: what the header declares needs 14 bytes at byte 24, 0 are left" },
    // Pairs
    { "B09 key length -1", "H:0:1 8:-1 0:16",
      "key number 0 has a length of 18446744073709551615 bytes, allowed are 1 to 1024" },
    { "B10 key length 0", "H:0:1 8:0 4:4 4:1 0:8",
      "key number 0 has a length of 0 bytes, allowed are 1 to 1024" },
    { "key too long", "H:0:1 S:1025 4:4 4:1",
      "key number 0 has a length of 1025 bytes, allowed are 1 to 1024" },
    { "key with a zero byte", "H:0:1 8:2 b:6100 4:4 4:1",
      "key number 0 contains the byte 0x00, only printable ASCII is allowed" },
    { "key past the end", "H:0:1 8:1000 0:100",
      "file is truncated: key needs 1000 bytes at byte 32, 100 are left" },
    { "B11 duplicate key", "H:0:2 s:a 4:4 4:1 s:a 4:4 4:1", "key a appears twice" },
    { "B12 value type 255", "H:0:1 s:a 4:255 8:0", "key a: unknown value type 255" },
    { "array of type 255", "H:0:1 s:a 4:9 4:255 8:0", "key a: unknown value type 255" },
    { "B13 nested array", "H:0:1 s:a 4:9 4:9 8:1 4:4 8:1 4:1",
      "key a: arrays of arrays are not supported" },
    { "B14 array count -1", "H:0:1 s:a 4:9 4:4 8:-1",
      "key a: array of 18446744073709551615 elements, at most 4194304 are allowed" },
    { "B15 count * size wraps", "H:0:1 s:a 4:9 4:10 8:0x2000000000000001 8:1",
      "key a: array of 2305843009213693953 elements, at most 4194304 are allowed" },
    { "array longer than the file", "H:0:1 s:a 4:9 4:4 8:1000 0:100",
      "file is truncated: an array needs 4000 bytes at byte 49, 100 are left" },
    { "strings longer than the file", "H:0:1 s:a 4:9 4:8 8:100 0:100",
      "file is truncated: an array needs 800 bytes at byte 49, 100 are left" },
    { "B16 string length n+1 wraps", "H:0:1 s:a 4:8 8:-1 0:8",
      "key a: string 0 has a length of 18446744073709551615 bytes, at most 1048576 are allowed" },
    { "string too long", "H:0:1 s:a 4:8 8:1048577 0:8",
      "key a: string 0 has a length of 1048577 bytes, at most 1048576 are allowed" },
    { "string past the end", "H:0:1 s:a 4:8 8:100 0:8",
      "file is truncated: a string needs 100 bytes at byte 45, 8 are left" },
    { "B17 value past the end", "H:0:1 s:abc 4:10 b:00",
      "file is truncated: a value needs 8 bytes at byte 39, 1 are left" },
    { "boolean of 2", "H:0:1 s:a 4:7 b:02", "key a: a boolean has the value 2" },
    { "boolean of 2 in an array", "H:0:1 s:a 4:9 4:7 8:2 b:0102",
      "key a: a boolean has the value 2" },
    { "B18 alignment 0", "H:0:1 s:general.alignment 4:4 4:0",
      "key general.alignment is 0, it must be a power of two and at most 1048576" },
    { "B19 alignment 3", "H:0:1 s:general.alignment 4:4 4:3",
      "key general.alignment is 3, it must be a power of two and at most 1048576" },
    { "B20 alignment 0x80000000", "H:0:1 s:general.alignment 4:4 4:0x80000000",
      "key general.alignment is 2147483648, it must be a power of two and at most 1048576" },
    { "B21 alignment of the wrong type", "H:0:1 s:general.alignment 4:10 8:32",
      "key general.alignment is not of type u32" },
    { "alignment as an array", "H:0:1 s:general.alignment 4:9 4:4 8:1 4:32",
      "key general.alignment is not of type u32" },
    // Tensors
    { "B24 name of 64 bytes", "H:1:0 S:64 4:1 8:4 4:0 8:0 D",
      "tensor name number 0 has a length of 64 bytes, allowed are 1 to 63" },
    { "empty name", "H:1:0 8:0 4:1 8:4 4:0 8:0 D",
      "tensor name number 0 has a length of 0 bytes, allowed are 1 to 63" },
    { "B25 duplicate name", "H:2:0 T T D", "tensor t appears twice" },
    { "B26 name with a zero byte", "H:1:0 8:2 b:6100 4:1 8:4 4:0 8:0 D",
      "tensor name number 0 contains the byte 0x00, only printable ASCII is allowed" },
    { "name with a blank", "H:1:0 8:2 b:6120 4:1 8:4 4:0 8:0 D",
      "tensor name number 0 contains the byte 0x20, only printable ASCII is allowed" },
    { "B27 n_dims 0", "H:1:0 s:a 4:0 4:0 8:0 D", "tensor a has 0 dimensions, allowed are 1 to 4" },
    { "B28 n_dims 5", "H:1:0 s:a 4:5 8:1 8:1 8:1 8:1 8:1 4:0 8:0 D",
      "tensor a has 5 dimensions, allowed are 1 to 4" },
    { "B29 n_dims -1", "H:1:0 s:a 4:-1 8:1 4:0 8:0 D",
      "tensor a has 4294967295 dimensions, allowed are 1 to 4" },
    { "B30 ne 0", "H:1:0 s:a 4:2 8:4 8:0 4:0 8:0 D", "tensor a: axis 1 has 0 elements" },
    { "B31 ne negative", "H:1:0 s:a 4:1 8:-4 4:0 8:0 D", "tensor a: axis 0 has -4 elements" },
    { "B32 product wraps", "H:1:0 s:a 4:2 8:0x100000000 8:0x100000000 4:0 8:0 D",
      "tensor a: the number of its elements overflows" },
    { "B32 product wraps to 4", "H:1:0 s:a 4:2 8:0x4000000000000001 8:4 4:0 8:0 D",
      "tensor a: the number of its elements overflows" },
    { "B33 bytes wrap", "H:1:0 s:a 4:1 8:0x4000000000000004 4:0 8:0 D",
      "tensor a: its size in bytes overflows" },
    { "B33 exabyte", "H:1:0 s:a 4:1 8:0x1000000000000000 4:0 8:0 D",
      "file is truncated or damaged: tensor a needs 4611686018427387904 bytes at offset 0 of the "
      "data, the file has 32 bytes of data" },
    { "B34 sizes wrap together",
      "H:2:0 s:a 4:1 8:0x1fffffffffffffe0 4:0 8:0 s:b 4:1 8:0x2000000000000000 4:0 8:32 D",
      "file is truncated or damaged: tensor a needs 9223372036854775680 bytes at offset 0 of the "
      "data, the file has 32 bytes of data" },
    { "B34 offset and size wrap to 0", "H:2:0 T s:b 4:1 8:0x3ffffffffffffff8 4:0 8:32 D 0:32",
      "file is truncated or damaged: tensor b needs 18446744073709551584 bytes at offset 32 of the "
      "data, the file has 64 bytes of data" },
    { "B35 type 255", "H:1:0 s:a 4:1 8:4 4:255 8:0 D", "tensor a has the unknown type 255" },
    { "B36 removed type 4", "H:1:0 s:a 4:1 8:32 4:4 8:0 D", "tensor a has the unknown type 4" },
    { "B37 half a block", "H:1:0 s:a 4:1 8:16 4:8 8:0 D",
      "tensor a: rows of 16 elements are not a multiple of the 32 of a Q8_0 block" },
    { "B38 offset misaligned", "H:1:0 s:a 4:1 8:4 4:0 8:4 D",
      "tensor a: offset 4 is not a multiple of the alignment 32" },
    { "B39 ranges overlap", "H:2:0 T s:b 4:1 8:8 4:0 8:0 D",
      "the data of tensors t and b overlap" },
    { "B40 offset past the end", "H:1:0 s:a 4:1 8:4 4:0 8:64 D",
      "file is truncated or damaged: tensor a needs 16 bytes at offset 64 of the data, the file "
      "has 32 bytes of data" },
    { "B40 data cut off", "H:1:0 s:a 4:1 8:4 4:0 8:0",
      "file is truncated or damaged: tensor a needs 16 bytes at offset 0 of the data, the file "
      "has 0 bytes of data" },
    { "B40 last byte cut off", "H:1:0 s:a 4:1 8:9 4:0 8:0 D",
      "file is truncated or damaged: tensor a needs 36 bytes at offset 0 of the data, the file "
      "has 32 bytes of data" },
    { "B41 offset 2^63", "H:1:0 s:a 4:1 8:4 4:0 8:0x8000000000000000 D",
      "file is truncated or damaged: tensor a needs 16 bytes at offset 9223372036854775808 of "
      "the data, the file has 32 bytes of data" },
    { "B41 offset 2^64 - 32", "H:1:0 s:a 4:1 8:8 4:0 8:0xffffffffffffffe0 D",
      "file is truncated or damaged: tensor a needs 32 bytes at offset 18446744073709551584 of "
      "the data, the file has 32 bytes of data" },
    { "tensor table cut off", "H:1:0 s:abcdefghijklmnop 4:1 8:4 4:0",
      "file is truncated: the tensor table needs 8 bytes at byte 64, 0 are left" },
    { "part of a split model", "H:0:1 s:split.count 4:2 b:0200 0:8",
      "is one part of a split model" },
};

static uint64_t number(const char *text)
{
    return text[0] == '-' ? (uint64_t) g_ascii_strtoll(text, NULL, 10)
                          : g_ascii_strtoull(text, NULL, 0);
}

static void put_number(GByteArray *out, uint64_t value, guint bytes)
{
    guint8 raw[8];

    vlm_store_le64(raw, value);
    g_byte_array_append(out, raw, bytes);
}

static void put_repeated(GByteArray *out, guint8 byte, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        g_byte_array_append(out, &byte, 1);
}

static void put_word(GByteArray *out, const char *word)
{
    const char *value = word[0] && word[1] ? word + 2 : "";

    if (word[0] == 'H') {
        g_byte_array_append(out, (const guint8 *) "GGUF", 4);
        put_number(out, 3, 4);
        put_number(out, number(value), 8);
        put_number(out, number(strchr(value, ':') + 1), 8);
    } else if (word[0] == '4' || word[0] == '8') {
        put_number(out, number(value), word[0] == '4' ? 4 : 8);
    } else if (word[0] == 's') {
        put_number(out, strlen(value), 8);
        g_byte_array_append(out, (const guint8 *) value, (guint) strlen(value));
    } else if (word[0] == 'S') {
        put_number(out, number(value), 8);
        put_repeated(out, 'x', number(value));
    } else if (word[0] == 'b') {
        for (; *value; value += 2)
            put_repeated(
                out,
                (guint8) (g_ascii_xdigit_value(value[0]) << 4 | g_ascii_xdigit_value(value[1])), 1);
    } else if (word[0] == '0') {
        put_repeated(out, 0, number(value));
    } else if (word[0] == 'T') {
        static const char *const entry[] = { "s:t", "4:1", "8:4", "4:0", "8:0" };
        for (guint i = 0; i < G_N_ELEMENTS(entry); i++)
            put_word(out, entry[i]);
    } else if (word[0] == 'D') {
        put_repeated(out, 0, (32 - out->len % 32) % 32 + 32);
    }
}

static GBytes *run_script(const char *script)
{
    GByteArray *out = g_byte_array_new();
    g_auto(GStrv) words = g_strsplit(script, " ", -1);

    for (char **word = words; *word; word++)
        put_word(out, *word);
    return g_byte_array_free_to_bytes(out);
}

static void test_malformed(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) bytes = run_script(cases[i].script);
        g_autoptr(GError) error = NULL;
        g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", &error);
        g_autofree char *expected = g_strdup_printf("FILE: %s", cases[i].error);

        g_test_message("%s", cases[i].id);
        g_assert_null(gguf);
        g_assert_error(error, VLM_ERROR, VLM_ERROR_FORMAT);
        g_assert_cmpstr(error->message, ==, expected);
    }
}

// The words of the table make sound files where they should.
static void test_sound(void)
{
    static const char *const scripts[] = {
        "H:0:0",
        "H:0:1 s:a 4:4 4:1 0:1",
        "b:47475546 4:2 8:0 8:0",  // B04: version 2 has the same layout
        "H:1:0 T D",
        "H:2:0 T s:b 4:1 8:4 4:0 8:32 D 0:32",
        "H:0:1 s:general.alignment 4:4 4:1048576",
        "H:0:1 s:a 4:9 4:8 8:0 0:8",
        "H:1:0 s:a 4:4 8:1 8:1 8:1 8:1 4:0 8:0 D",
    };

    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
        g_autoptr(GBytes) bytes = run_script(scripts[i]);
        g_autoptr(GError) error = NULL;
        g_autoptr(vlm_gguf) gguf = vlm_gguf_open_bytes(bytes, "FILE", &error);

        g_assert_no_error(error);
        g_assert_nonnull(gguf);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gguf/malformed", test_malformed);
    g_test_add_func("/gguf/sound", test_sound);
    return g_test_run();
}
