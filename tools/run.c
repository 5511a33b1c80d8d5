// SPDX-License-Identifier: LGPL-2.1-or-later
// tools/run.c — `vlm run`: answers prompts about images and films.
#include "run.h"

#include <stdio.h>
#include <string.h>

#include "content.h"
#include "json_out.h"
#include "options.h"
#include "tool.h"

#define MAX_CHAT_LINE 65536

static tool_model_options model = { .vision = VLM_VISION_OPTIONAL };
static char *prompt, *system_prompt, *batch, *examples_path, *messages_path;
static char **images, **films, **banned_texts;
static double fps = 2.0, temperature, top_p, min_p;
static int top_k, max_tokens = 256, top_logits, context_size;
static gint64 seed;
static gboolean json, ignore_stop, chat, raw, whole_films;

static const GOptionEntry entries[] = {
    TOOL_MODEL_ENTRIES(model),
    TOOL_NO_MMPROJ_ENTRY(model.no_mmproj),
    { "prompt", 'p', 0, G_OPTION_ARG_STRING, &prompt,
      "The question; <image> and <video> in it stand for the files in their order", "TEXT" },
    { "image", 'i', 0, G_OPTION_ARG_FILENAME_ARRAY, &images, "An image (may be given many times)",
      "FILE" },
    { "video", 'v', 0, G_OPTION_ARG_FILENAME_ARRAY, &films, "A film (may be given many times)",
      "FILE" },
    { "fps", 0, 0, G_OPTION_ARG_DOUBLE, &fps, "Frames per second taken from a film (default: 2)",
      "RATE" },
    { "whole-films", 0, 0, G_OPTION_ARG_NONE, &whole_films,
      "Measure films first: frames get the size that the model's makers give those of a film of "
      "that "
      "length, not of a stream",
      NULL },
    { "system", 's', 0, G_OPTION_ARG_STRING, &system_prompt, "System prompt", "TEXT" },
    { "examples", 0, 0, G_OPTION_ARG_FILENAME, &examples_path,
      "Examples with their answers, shown first: JSON, see below", "FILE" },
    { "messages", 0, 0, G_OPTION_ARG_FILENAME, &messages_path,
      "A conversation to go on with: JSON, see below", "FILE" },
    { "max-tokens", 'n', 0, G_OPTION_ARG_INT, &max_tokens, "Longest answer (default: 256)", "N" },
    { "context-size", 'c', 0, G_OPTION_ARG_INT, &context_size,
      "Tokens of the context (default: 8192 or the model's own)", "N" },
    { "temp", 't', 0, G_OPTION_ARG_DOUBLE, &temperature, "Temperature, 0 = greedy (default)", "T" },
    { "top-k", 0, 0, G_OPTION_ARG_INT, &top_k, "Sample from the K likeliest tokens", "K" },
    { "top-p", 0, 0, G_OPTION_ARG_DOUBLE, &top_p, "Sample from tokens that sum up to P", "P" },
    { "min-p", 0, 0, G_OPTION_ARG_DOUBLE, &min_p, "Leave out tokens below P of the likeliest",
      "P" },
    { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Seed of the sampler (default: 0)", "N" },
    { "ban-token", 0, 0, G_OPTION_ARG_STRING_ARRAY, &banned_texts,
      "A token that is never chosen (may be given many times)", "ID" },
    { "raw", 0, 0, G_OPTION_ARG_NONE, &raw,
      "Complete the prompt as it stands, without the model's chat format; special tokens written "
      "in it count",
      NULL },
    { "ignore-stop", 0, 0, G_OPTION_ARG_NONE, &ignore_stop,
      "Go on past the end of the answer, to --max-tokens", NULL },
    { "top-logits", 0, 0, G_OPTION_ARG_INT, &top_logits, "Show the K largest logits per token",
      "K" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &json, "Print the answer as a line of JSON", NULL },
    { "chat", 0, 0, G_OPTION_ARG_NONE, &chat,
      "Go on with questions from standard input, one a line", NULL },
    { "batch", 0, 0, G_OPTION_ARG_FILENAME, &batch,
      "Answer a file of JSON lines instead ('-' = standard input)", "FILE" },
    TOOL_ENGINE_ENTRIES(model),
    G_OPTION_ENTRY_NULL,
};

static const char help[] =
    "Examples:\n"
    "  vlm run --image cat.jpg --prompt 'What is this?'\n"
    "  vlm run -i a.png -i b.png -p 'Compare <image> with <image>.'\n"
    "  vlm run --video film.webm --fps 1 -p 'What happens?' --json\n"
    "  vlm run -p 'Hello' --top-logits 5 --max-tokens 3\n"
    "  vlm run -m SmolLM2-135M-Instruct.Q4_1.gguf --raw -p 'The capital of France is' -n 8\n"
    "  vlm run --batch questions.jsonl > answers.jsonl\n\n"
    "A line for --batch: {\"id\": 1, \"video\": \"film.webm\", \"image\": [\"a.png\"], \"fps\": "
    "2,\n"
    "\"prompts\": [\"What happens?\", \"How many are there?\"], \"max_tokens\": 64}; each prompt "
    "gives a line\n{\"id\", \"prompt\", \"text\"}, with --top-logits also \"tokens\" and "
    "\"top\". The film is encoded\nonce for all prompts.\n\n"
    "--examples: [{\"image\": \"a.png\", \"prompt\": \"What is it?\", \"answer\": \"A "
    "cat.\"}, ...]; \"image\"\nand \"video\" name a file or a list of files, <image> and "
    "<video> in the prompt their places,\n\"fps\" the rate of a film. Without a prompt of its own "
    "an example is asked --prompt.\n"
    "--messages: [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": "
    "\"a.png\"}, {\"type\":\n\"text\", \"text\": \"What is it?\"}]}, {\"role\": "
    "\"assistant\", \"content\": \"A cat.\"}, ...]. The last\nmessage, if it is the user's, is "
    "answered. Files are relative to the JSON file.\n\n"
    "Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong options.";

// ---------------------------------------------------------------------------------- generation

// A generation that runs in a thread of its own while this one prints: the engine's thread, which
// calls on_text, must not wait for a terminal.
typedef struct generation_job {
    vlm_session *session;
    vlm_generate_params params;
    GAsyncQueue *pieces;  // strings; an empty one is the last
    vlm_generation *generation;
    GError *error;
} generation_job;

static void on_text(const char *utf8, gpointer user_data)
{
    if (*utf8)
        g_async_queue_push(user_data, g_strdup(utf8));
}

static gpointer generate_thread(gpointer user_data)
{
    generation_job *job = user_data;

    job->generation = vlm_session_generate(job->session, &job->params, &job->error);
    g_async_queue_push(job->pieces, g_strdup(""));
    return NULL;
}

vlm_generation *run_generate(vlm_session *session, const vlm_generate_params *params,
                             gboolean print, GError **error)
{
    generation_job job = { .session = session, .params = *params };
    GThread *thread;
    gboolean more = TRUE;

    if (!print)
        return vlm_session_generate(session, params, error);
    job.pieces = g_async_queue_new_full(g_free);
    job.params.on_text = on_text;
    job.params.user_data = job.pieces;
    thread = g_thread_new("generate", generate_thread, &job);
    while (more) {
        g_autofree char *piece = g_async_queue_pop(job.pieces);

        fputs(piece, stdout);
        fflush(stdout);
        more = *piece != '\0';
    }
    g_thread_join(thread);
    g_async_queue_unref(job.pieces);
    if (job.generation)
        puts("");
    else
        g_propagate_error(error, job.error);
    return job.generation;
}

// -------------------------------------------------------------------------------------- output

static void add_top(JsonBuilder *builder, const vlm_generation *g, guint i)
{
    json_builder_begin_array(builder);
    for (guint k = 0; k < g->n_top_logits; k++) {
        const vlm_top_logit *top = &g->top[(gsize) i * g->n_top_logits + k];

        json_builder_begin_object(builder);
        json_out_int(builder, "token", top->token);
        json_out_double(builder, "logit", (double) top->logit);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
}

void run_add_tokens(JsonBuilder *builder, const vlm_generation *g)
{
    json_builder_set_member_name(builder, "tokens");
    json_builder_begin_array(builder);
    for (guint i = 0; i < g->n_tokens; i++)
        json_builder_add_int_value(builder, g->tokens[i]);
    json_builder_end_array(builder);
    if (g->top) {
        json_builder_set_member_name(builder, "top");
        json_builder_begin_array(builder);
        for (guint i = 0; i < g->n_tokens; i++)
            add_top(builder, g, i);
        json_builder_end_array(builder);
    }
}

static void print_json(const vlm_generation *g)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_out_string(builder, "text", g->text);
    json_out_int(builder, "n_prompt", g->n_prompt);
    json_out_int(builder, "n_context", g->n_context);
    json_out_string(builder, "finish", g->finish == VLM_FINISH_STOP ? "stop" : "length");
    json_out_double(builder, "ms_first", (double) g->us_first * 1e-3);
    json_out_double(builder, "ms_total", (double) g->us_total * 1e-3);
    run_add_tokens(builder, g);
    json_builder_end_object(builder);
    json_out_print(builder);
}

static void print_top(const vlm_generation *g)
{
    for (guint i = 0; g->top && i < g->n_tokens; i++) {
        printf("token %u is %u:", i, g->tokens[i]);
        for (guint k = 0; k < g->n_top_logits; k++) {
            const vlm_top_logit *top = &g->top[(gsize) i * g->n_top_logits + k];

            printf(" %u %.4f", top->token, (double) top->logit);
        }
        printf("\n");
    }
}

// ------------------------------------------------------------------------------------- command

static gboolean check_options(run_options *options, GArray *banned, GError **error)
{
    if (!tool_check_device_memory(model.device_memory, error)
        || !tool_check_range("--fps", fps, 0.001, 1000, error)
        || !tool_check_range("--temp", temperature, 0, 5, error)
        || !tool_check_range("--top-p", top_p, 0, 1, error)
        || !tool_check_range("--min-p", min_p, 0, 1, error)
        || !tool_check_range("--top-k", top_k, 0, G_MAXINT, error)
        || !tool_check_range("--seed", (double) seed, 0, (double) G_MAXINT64, error)
        || !tool_check_range("--max-tokens", max_tokens, 1, 1 << 24, error)
        || !tool_check_range("--top-logits", top_logits, 0, 1000, error)
        || (context_size && !tool_check_range("--context-size", context_size, 256, 1 << 24, error)))
        return FALSE;
    for (guint i = 0; banned_texts && banned_texts[i]; i++) {
        guint64 id;
        guint32 token;

        if (!g_ascii_string_to_unsigned(banned_texts[i], 10, 0, G_MAXUINT32, &id, error))
            return FALSE;
        token = (guint32) id;
        g_array_append_val(banned, token);
    }
    options->fps = fps;
    options->session.context_size = model.context_size = (guint32) context_size;
    options->session.system_prompt = system_prompt;
    options->session.raw = raw;
    options->generate = (vlm_generate_params){
        .sampling = { .temperature = temperature,
                      .top_k = (guint32) top_k,
                      .top_p = top_p,
                      .min_p = min_p,
                      .seed = (guint64) seed },
        .max_tokens = (guint32) max_tokens,
        .n_top_logits = (guint32) top_logits,
        .keep = chat,
        .ignore_stop = ignore_stop,
        .banned = banned->len ? &g_array_index(banned, guint32, 0) : NULL,
        .n_banned = banned->len,
    };
    return TRUE;
}

static gboolean answer(vlm_session *session, run_options *options, const char *question,
                       GError **error)
{
    g_autoptr(vlm_generation) generation = NULL;

    options->generate.prompt = question;
    generation = run_generate(session, &options->generate, !json, error);
    if (!generation)
        return FALSE;
    if (json)
        print_json(generation);
    else
        print_top(generation);
    return TRUE;
}

static gboolean go_on(vlm_session *session, run_options *options, GError **error)
{
    g_autofree char *line = g_malloc(MAX_CHAT_LINE);

    while (fgets(line, MAX_CHAT_LINE, stdin)) {
        g_strchomp(line);
        if (*line && !answer(session, options, line, error))
            return FALSE;
    }
    return TRUE;
}

vlm_session *run_session(vlm_engine *engine, const run_options *options, GError **error)
{
    const turns *begin[] = { options->examples, options->history };
    vlm_session_params params = options->session;
    g_autoptr(vlm_session) session = NULL;

    // Both stay, so that what doesn't fit is an error and not forgotten in silence.
    if (options->examples || options->history)
        params.examples_key = "";
    session = vlm_session_create(engine, &params, error);
    for (guint i = 0; session && i < G_N_ELEMENTS(begin); i++)
        if (begin[i] && !turns_feed(session, begin[i], options->fps, options->measured, error))
            return NULL;
    return session && vlm_session_end_examples(session, error) ? g_steal_pointer(&session) : NULL;
}

static gboolean run(vlm_engine *engine, run_options *options, const GPtrArray *parts,
                    GError **error)
{
    g_autoptr(vlm_session) session = run_session(engine, options, error);

    return session && content_feed(session, parts, options->fps, options->measured, error)
           && ((chat && parts->len == 1 && !*content_question(parts))
               || answer(session, options, content_question(parts), error))
           && (!chat || go_on(session, options, error));
}

// Reads --examples and --messages. The question becomes *parts: the conversation's last turn when
// that has no answer, else the prompt with its files.
static gboolean read_begin(run_options *options, turns **shown, turns **history, GPtrArray **parts,
                           GError **error)
{
    if (examples_path) {
        options->examples = *shown = turns_read_examples(examples_path, prompt, error);
        if (!*shown)
            return FALSE;
    }
    if (messages_path) {
        options->history = *history = turns_read_messages(messages_path, error);
        if (!*history)
            return FALSE;
        if ((*history)->system)
            options->session.system_prompt = (*history)->system;
        const turn *last = (*history)->list->len > 0
                               ? g_ptr_array_index((*history)->list, (*history)->list->len - 1)
                               : NULL;
        if (last && !last->answer)
            *parts = g_ptr_array_ref(last->parts);
    }
    return TRUE;
}

int tool_run(int argc, char **argv)
{
    run_options options = { 0 };
    g_autoptr(turns) shown = NULL, history = NULL;
    g_autoptr(GArray) banned = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(GPtrArray) parts = NULL;
    g_autoptr(vlm_engine) engine = NULL;
    g_autoptr(GError) error = NULL;

    if (!tool_parse(&argc, &argv, entries, NULL, "Answers a prompt about images and films.", help))
        return TOOL_USAGE;
    if (argc > 1)
        return tool_usage_error(argv[0], "takes no argument '%s'; is it an --image or a --video?",
                                argv[1]);
    if (!prompt && !batch && !chat && !messages_path)
        return tool_usage_error(argv[0], "needs a --prompt, --messages, --chat or a --batch");
    if (raw && system_prompt)
        return tool_usage_error(argv[0], "--raw has no place for a --system prompt");
    if (raw && (examples_path || messages_path))
        return tool_usage_error(argv[0], "--raw has no turns for --examples and --messages");
    if (batch && (prompt || images || films || chat || messages_path))
        return tool_usage_error(argv[0], "--batch takes prompts and files from its lines");
    if (!check_options(&options, banned, &error))
        return tool_usage_error(argv[0], "%s", error->message);
    if (!read_begin(&options, &shown, &history, &parts, &error))
        return tool_failed(argv[0], error);
    if (parts && (prompt || images || films))
        return tool_usage_error(argv[0],
                                "%s ends with a question of its own; leave out --prompt, "
                                "--image and --video",
                                messages_path);
    if (history && !parts && !prompt && !chat)
        return tool_usage_error(argv[0], "%s ends with an answer; needs a --prompt or --chat",
                                messages_path);
    if (history && history->system && system_prompt)
        return tool_usage_error(argv[0], "%s has a system prompt of its own; leave out --system",
                                messages_path);
    if (!batch && !parts) {
        parts = content_parse(prompt ? prompt : "", (const char *const *) images,
                              (const char *const *) films, &error);
        if (!parts)
            return tool_usage_error(argv[0], "%s", error->message);
    }
    engine = tool_open_engine(&model, &error);
    if (!engine)
        return tool_failed(argv[0], error);
    options.measured = whole_films || vlm_engine_get_info(engine)->wants_film_length;
    if (batch)
        return run_batch(engine, batch, &options);
    if (!run(engine, &options, parts, &error))
        return tool_failed(argv[0], error);
    return TOOL_OK;
}
