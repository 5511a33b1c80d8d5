#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# style.sh — what a compiler doesn't check: layout of the files, who includes whom, exported names.
#   tests/style.sh [BUILD FOLDER]    the folder adds the check of exported names
# Each rule is a function that prints what breaks it; any output is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1-}
failed=0

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    mapfile -t all < <(git ls-files --cached --others --exclude-standard)
else
    mapfile -t all < <(find . -type f -not -path './build*' -not -path './.git/*' | sed 's|^\./||')
fi

# pick REGEX: the files whose names match.
pick()
{
    printf '%s\n' "${all[@]}" | grep -E "$1" | while read -r f; do [ -f "$f" ] && echo "$f"; done
}

mapfile -t c_files < <(pick '^(engine|media|tools|tests|gst-plugin|bench|docs|examples|shaders)/.*\.[ch]$')
mapfile -t shaders < <(pick '\.(comp|glsl)$')
mapfile -t scripts < <(pick '(\.(py|sh)$|^caption$|^check$|^\.ci/run$)')
sources=("${c_files[@]}" "${shaders[@]}" "${scripts[@]}")

rule()
{
    local name=$1 out
    out=$("$name")
    if [ -n "$out" ]; then
        echo "not ok - $name: $(rule_text "$name")"
        echo "$out" | head -40 | sed 's/^/    /'
        failed=$((failed + 1))
    else
        echo "ok - $name"
    fi
}

rule_text()
{
    case $1 in
    licence) echo "the first lines hold the licence, then the file's name and what it is" ;;
    layout) echo "no tabs, no blanks at the end of a line, a newline at the end of the file" ;;
    length) echo "lines up to 100 characters, functions up to 100 lines, files up to 800" ;;
    tiers) echo "includes go down only: runtime, model, ops, gpu, base" ;;
    vulkan) echo "only engine/gpu includes vulkan.h" ;;
    gstreamer) echo "GStreamer and GObject stay in gst-plugin, media, tools, bench and tests of them" ;;
    public_header) echo "gst-plugin, media and tools see vlm.h and nothing else of the engine" ;;
    references) echo "a reference shares no code with what it checks" ;;
    environment) echo "engine/base/env.c reads the environment, every row is used and documented" ;;
    words) echo "no unfinished work, no paths of one machine, no package registries" ;;
    formatted) echo "clang-format leaves the file as it is" ;;
    exported) echo "libraries export vlm_* names only, the plugin its entry points only" ;;
    esac
}

licence()
{
    local f
    for f in "${sources[@]}"; do
        head -n 2 "$f" | grep -q 'SPDX-License-Identifier: LGPL-2.1-or-later' || echo "$f: licence"
        head -n 4 "$f" | grep -qE "^(// |# |\"\"\")([.a-z/-]*/)?$(basename "$f" | sed 's/\./\\./g').* (—|-) ." \
            || echo "$f: name and purpose"
    done
}

layout()
{
    local tab
    tab=$(printf '\t')
    grep -nH -e "$tab" -e ' $' "${sources[@]}" | cut -c1-100
    local f
    for f in "${sources[@]}"; do
        [ -z "$(tail -c1 "$f")" ] || echo "$f: no newline at the end"
    done
}

length()
{
    # Bytes 128 to 191 continue a character.
    LC_ALL=C awk 'FNR == 1 { body = 0 }
         { line = $0; gsub(/[\200-\277]/, "", line); n = length(line) }
         n > 100 { print FILENAME ":" FNR ": " n " characters" }
         FNR == 801 { print FILENAME ": more than 800 lines" }
         /^\{/ { body = FNR }
         /^\}/ { if (body && FNR - body > 101 && FILENAME ~ /c$/) print FILENAME ":" body ": " FNR - body - 1 " lines"
                 body = 0 }' "${c_files[@]}" "${shaders[@]}"
}

tiers()
{
    awk 'BEGIN { tier["base"] = 0; tier["gpu"] = 1; tier["ops"] = 2; tier["model"] = 3
                 tier["runtime"] = 4 }
         FILENAME ~ /^engine\/(base|gpu|ops|model|runtime)\// && /^#include "/ {
             split(FILENAME, path, "/"); split($2, inc, "[\"/]")
             if (inc[2] in tier && tier[inc[2]] > tier[path[2]])
                 print FILENAME ":" FNR ": " $0
         }' "${c_files[@]}"
}

vulkan()
{
    grep -nH -E '^#include [<"]vulkan' "${c_files[@]}" | grep -v '^engine/gpu/'
}

gstreamer()
{
    grep -nH -E '^#include <(gst/|glib-object|gio/)' "${c_files[@]}" \
        | grep -vE '^(gst-plugin|media|tools|bench|examples)/|^tests/(element|tool|gst|stream)_?'
}

public_header()
{
    grep -nH -E '^#include "(\.\./)*(engine/)?(base|gpu|ops|model|runtime)/' "${c_files[@]}" \
        | grep -E '^(gst-plugin|media|tools)/'
}

references()
{
    grep -nH -E '^#include "' "${c_files[@]}" | grep -E '^tests/ref_[a-z_0-9]*\.[ch]:' \
        | grep -vE '"(ref_[a-z_0-9]*\.h|ops/quant\.h|base/number\.h|vlm\.h)"'
}

environment()
{
    local row
    grep -nH -E '\b(g_getenv|secure_getenv|getenv)\b *\(' "${c_files[@]}" \
        | grep -E '^(engine|gst-plugin|media|tools)/' | grep -vE '^engine/base/env\.[ch]:'
    for row in $(grep -oE '^    X\([A-Z0-9_]+' engine/base/env.h | cut -c7-); do
        [ "$row" = HELP ] || grep -q "VLM_ENV_$row\b" $(pick '^engine/.*\.c$') \
            || echo "VLM_$row: nothing reads it"
        grep -q "VLM_$row\b" docs/debugging.md || echo "VLM_$row: not in docs/debugging.md"
    done
    for row in $(grep -oE '^    Y\([A-Z0-9_]+' engine/base/env.h | cut -c7-); do
        grep -q "VLM_ENV_$row\b" $(pick '^engine/.*\.c$') || echo "$row: nothing reads it"
        grep -q "\`$row\`" docs/debugging.md || echo "$row: not in docs/debugging.md"
    done
}

words()
{
    # Spelled in pieces so that this file doesn't match itself.
    local f="TO""DO|FIX""ME|XX""X" p="/wo""rk/|/tmp/te""am|/opt/p""y|/root""/" r="pypi\.o""rg|cra""tes\.io"
    mapfile -t texts < <(pick '(\.(c|h|comp|glsl|py|sh|md|build|txt|json)$|^caption$|^check$|^\.ci/run$)')
    grep -nHIE "\b($f)\b|$p|$r" "${texts[@]}" | cut -c1-140
}

formatted()
{
    # Each version of clang-format has its own taste; ours is that of Debian 12. args.h is GLSL
    # as well as C.
    clang-format --version 2>/dev/null | grep -q 'version 14\.' || return 0
    printf '%s\n' "${c_files[@]}" | grep -vE '^shaders/' \
        | xargs clang-format --dry-run 2>&1 | grep -E ': warning:' | cut -c1-100
}

exported()
{
    local a
    [ -n "$build" ] || return 0
    for a in "$build"/engine/*.a; do
        [ -f "$a" ] || continue
        nm --defined-only --extern-only "$a" 2>/dev/null | awk -v f="${a##*/}" \
            'NF == 3 && $2 ~ /[TDBRC]/ && $3 !~ /^(vlm_|__|_)/ { print f ": " $3 }'
    done
    for a in "$build"/gst-plugin/libgstvlm.so; do
        [ -f "$a" ] || continue
        nm -D --defined-only "$a" | awk -v f="${a##*/}" \
            'NF == 3 && $3 !~ /^(gst_plugin_vlm_|__|_|edata|end)/ { print f ": " $3 }'
    done
}

for name in licence layout length tiers vulkan gstreamer public_header references environment \
    words formatted exported; do
    rule "$name"
done
[ "$failed" = 0 ]
