// SPDX-License-Identifier: LGPL-2.1-or-later
// fake_engine.h — an engine that plays a script, for tests of the element.
//
// fake_engine.c implements vlm.h without a model and without a device. It sees frames (it reads
// every pixel), counts, and answers with what it saw. Calls can be held until the test lets them
// go, and the nth call can be made to fail; nothing depends on a clock. It also checks its caller:
// misuse that vlm.h forbids ends the program.
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "vlm.h"

typedef enum {
    FAKE_OPEN,      // vlm_engine_open()
    FAKE_CREATE,    // vlm_session_create()
    FAKE_FRAME,     // vlm_session_add_frame()
    FAKE_END_FILM,  // vlm_session_end_film()
    FAKE_GENERATE,  // vlm_session_generate()
    FAKE_RESET,     // vlm_session_reset()
    FAKE_EXAMPLE,   // vlm_session_add_answer()
    FAKE_N_POINT
} fake_point;

// Back to the beginning: nothing held, nothing fails, counters at 0. Must: no engine is open.
void fake_start(void);

// While held, calls of `point` wait until they are let go or cancelled.
void fake_hold(fake_point point);
void fake_release(fake_point point);
// Lets `n` calls that wait, or will wait, go.
void fake_step(fake_point point, guint n);
// Returns when a call of `point` waits.
void fake_wait_held(fake_point point);

// From now on, call `nth` (1 = the next) of `point` and the `count - 1` after it fail.
void fake_fail(fake_point point, guint nth, guint count, vlm_error_code code, const char *message);

// What vlm_session_generate() answers; NULL: what the session saw.
void fake_set_answer(const char *text);

// Calls of `point` that began since fake_start().
guint fake_count(fake_point point);
// Returns when at least `n` calls of `point` have returned.
void fake_wait_done(fake_point point, guint n);

// What happened, one line per call, in order. Free it.
char *fake_get_log(void);

guint fake_n_engines(void);   // open now
guint fake_n_sessions(void);  // exist now
guint fake_n_uploads(void);   // engines made since fake_start()

// The last frame: its form, and its mean colour by the matrix and range it was given with.
typedef struct fake_frame {
    vlm_pixel_format format;
    uint32_t width, height;
    vlm_color_matrix matrix;
    gboolean full_range;
    double rgb[3];  // 0 to 255
} fake_frame;
fake_frame fake_get_frame(void);

#endif
