// SPDX-License-Identifier: LGPL-2.1-or-later
// element_captions.c — what vlmcaption says about film that simply plays.
#include "element_common.h"

GST_START_TEST (test_passthrough)
{
  Rig *rig = rig_new ("", FALSE);
  GstBuffer *in = rig_frame (0), *out;

  // The very same buffer comes out.
  fail_unless_equals_int (gst_harness_push (rig->video, in), GST_FLOW_OK);
  out = gst_harness_pull (rig->video);
  fail_unless (in == out);
  gst_buffer_unref (out);
  rig_free (rig);
}
GST_END_TEST

GST_START_TEST (test_message)
{
  Rig *rig = rig_new ("", FALSE);
  g_autoptr (GstMessage) message = NULL;
  const GstStructure *s;
  guint tokens = 0;

  rig_push (rig, 0, 4100);
  message = rig_wait (rig, GST_MESSAGE_ELEMENT);
  fail_unless (GST_MESSAGE_SRC (message) == GST_OBJECT (rig->element));
  s = gst_message_get_structure (message);
  fail_unless_equals_string (gst_structure_get_name (s), "vlm-caption");
  fail_unless_equals_string (gst_structure_get_string (s, "text"),
      "8 frames from 0.000 to 3.500");
  fail_unless_equals_uint64 (caption_field (s, "timestamp"), 0);
  fail_unless_equals_uint64 (caption_field (s, "stream-time"), 0);
  fail_unless_equals_uint64 (caption_field (s, "running-time"), 0);
  fail_unless_equals_uint64 (caption_field (s, "duration"), 4 * GST_SECOND);
  fail_unless_equals_uint64 (caption_field (s, "number"), 1);
  fail_unless (gst_structure_get_uint (s, "tokens", &tokens));
  fail_unless_equals_int (tokens, 7);
  fail_unless (gst_structure_has_field_typed (s, "latency", G_TYPE_UINT64));
  rig_free (rig);
}
GST_END_TEST

GST_START_TEST (test_last_words)
{
  Rig *rig = rig_new ("", TRUE);
  g_autofree char *first = NULL, *last = NULL, *text = NULL;
  GstClockTime pts, duration;

  rig_push (rig, 0, 5500);
  rig_eos (rig);
  // The harness has seen EOS: both captions are there.
  fail_unless_equals_int (fake_count (FAKE_GENERATE), 2);
  first = rig_wait_caption (rig);
  last = rig_wait_caption (rig);
  fail_unless_equals_string (last, "3 frames from 4.000 to 5.000");
  g_free (rig_pull_text (rig, &pts, &duration));
  fail_unless_equals_uint64 (pts, 0);
  fail_unless_equals_uint64 (duration, 4 * GST_SECOND);
  text = rig_pull_text (rig, &pts, &duration);
  fail_unless_equals_string (text, last);
  fail_unless_equals_uint64 (pts, 4 * GST_SECOND);
  fail_unless_equals_uint64 (duration, 1500 * GST_MSECOND);
  rig_free (rig);
}
GST_END_TEST

static Suite *
captions_suite (void)
{
  Suite *s = suite_create ("captions");
  TCase *tc = tcase_create ("captions");

  suite_add_tcase (s, tc);
  tcase_add_checked_fixture (tc, element_setup, element_teardown);
  tcase_add_test (tc, test_passthrough);
  tcase_add_test (tc, test_message);
  tcase_add_test (tc, test_last_words);
  return s;
}

int
main (void)
{
  return element_main (captions_suite (), "element_captions");
}
