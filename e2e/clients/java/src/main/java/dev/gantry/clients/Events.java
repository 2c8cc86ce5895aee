package dev.gantry.clients;

import java.io.PrintStream;
import java.util.List;

/**
 * Writes one JSON object per line. Every event carries {@code t_ms}, milliseconds since its command started on a clock that
 * never jumps, and {@code wall_ms}, Unix time, by which the events of several processes are put side by side.
 */
final class Events {
    private final PrintStream out;
    private final String tag;
    private final long start = System.nanoTime();

    /** {@code tag} names the command the events belong to where several share one output; empty for none. */
    Events(PrintStream out, String tag) {
        this.out = out;
        this.tag = tag;
    }

    long millis() {
        return (System.nanoTime() - start) / 1_000_000;
    }

    /** {@code fields} are names and values in turn: text, numbers, booleans, or a list of numbers. */
    void emit(String event, Object... fields) {
        StringBuilder line = new StringBuilder(160).append("{\"event\":");
        quote(line, event);
        if (!tag.isEmpty()) {
            line.append(",\"cmd\":");
            quote(line, tag);
        }
        line.append(",\"t_ms\":").append(millis()).append(",\"wall_ms\":").append(System.currentTimeMillis());
        for (int i = 0; i < fields.length; i += 2) {
            line.append(",\"").append(fields[i]).append("\":");
            Object value = fields[i + 1];
            if (value instanceof Number || value instanceof Boolean || value instanceof List) {
                line.append(value);
            } else {
                quote(line, String.valueOf(value));
            }
        }
        String whole = line.append("}\n").toString();
        synchronized (out) {
            out.print(whole);
            out.flush();
        }
    }

    /** An exception in one line: its class and message, and its first cause's. */
    static String describe(Throwable error) {
        Throwable cause = error.getCause();
        String text = error + (cause == null ? "" : " <- " + cause);
        return text.length() <= 400 ? text : text.substring(0, 400);
    }

    private static void quote(StringBuilder line, String text) {
        line.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                line.append('\\').append(c);
            } else if (c < ' ') {
                line.append(String.format("\\u%04x", (int) c));
            } else {
                line.append(c);
            }
        }
        line.append('"');
    }
}
