package dev.gantry.clients;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** The options of one command: {@code --name value}, or {@code --name} alone for a switch. */
final class Flags {
    private final Map<String, String> given = new HashMap<>();
    private final Set<String> unread = new TreeSet<>();

    Flags(List<String> words) {
        for (int i = 0; i < words.size(); i++) {
            String word = words.get(i);
            if (!word.startsWith("--")) {
                throw new IllegalArgumentException("expected an option, found \"" + word + "\"");
            }
            boolean hasValue = i + 1 < words.size() && !words.get(i + 1).startsWith("--");
            given.put(word.substring(2), hasValue ? words.get(++i) : "true");
        }
        unread.addAll(given.keySet());
    }

    String text(String name, String otherwise) {
        unread.remove(name);
        return given.getOrDefault(name, otherwise);
    }

    String required(String name) {
        String value = text(name, null);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value;
    }

    long number(String name, long otherwise) {
        return Long.parseLong(text(name, Long.toString(otherwise)));
    }

    boolean isSet(String name) {
        return Boolean.parseBoolean(text(name, "false"));
    }

    String oneOf(String name, String otherwise, String... allowed) {
        String value = text(name, otherwise);
        if (!List.of(allowed).contains(value)) {
            throw new IllegalArgumentException("--" + name + " is one of " + String.join(", ", allowed));
        }
        return value;
    }

    /** Refuses options that nobody asked for: a misspelt one must not be a test that tests nothing. */
    void rejectUnread() {
        if (!unread.isEmpty()) {
            throw new IllegalArgumentException("unknown option --" + String.join(", --", unread));
        }
    }
}
