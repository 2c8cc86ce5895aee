package dev.gantry.clients;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** {@code produce | consume | bench} once, or {@code serve}: many commands in one JVM, read from standard input. */
public final class Main {
    private static final Map<String, Verb> RUNNING = new ConcurrentHashMap<>();

    private Main() { }

    public static void main(String[] args) throws Exception {
        // Both clients write log files under the home directory unless told otherwise, each with a logback of its own.
        System.setProperty("rocketmq.logback.configurationFile", "grpc-client.logback.xml");
        System.setProperty("rmq.logback.configurationFile", "remoting-client.logback.xml");
        // A remoting consumer that starts an instant too early asks for its queues again after 20 s by default.
        System.setProperty("rocketmq.client.rebalance.waitInterval", "2000");
        // Standard output belongs to the events alone.
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        System.setOut(System.err);
        Runtime.getRuntime().addShutdownHook(new Thread(Main::stopAll));
        List<String> words = Arrays.asList(args);
        int code = words.equals(List.of("serve")) ? serve(out) : run(words, new Events(out, ""), "");
        System.exit(code);
    }

    private static int run(List<String> words, Events events, String tag) {
        try {
            Verb verb = Verb.parse(words, events);
            RUNNING.put(tag, verb);
            return verb.run();
        } catch (IllegalArgumentException wrong) {
            events.emit("summary", "ok", false, "reason", Events.describe(wrong));
            return 2;
        } finally {
            RUNNING.remove(tag);
        }
    }

    /** Lines {@code TAG COMMAND…} start at once, side by side; {@code wait} holds the reader until all ended; {@code stop TAG}. */
    private static int serve(PrintStream out) throws IOException, InterruptedException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Map<String, Thread> threads = new LinkedHashMap<>();
        int[] worst = {0};
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            List<String> words = Arrays.asList(line.trim().split("\\s+"));
            String tag = words.get(0);
            if (tag.isEmpty()) {
                continue;
            }
            if (tag.equals("wait")) {
                joinAll(threads);
            } else if (tag.equals("stop")) {
                words.stream().skip(1).map(RUNNING::get).filter(verb -> verb != null).forEach(Verb::stop);
            } else {
                Thread thread = new Thread(() -> {
                    Events events = new Events(out, tag);
                    int code = run(words.subList(1, words.size()), events, tag);
                    events.emit("exit", "code", code);
                    synchronized (worst) {
                        worst[0] = Math.max(worst[0], code);
                    }
                }, tag);
                threads.put(tag, thread);
                thread.start();
            }
        }
        joinAll(threads);
        return worst[0];
    }

    private static void joinAll(Map<String, Thread> threads) throws InterruptedException {
        for (Thread thread : threads.values()) {
            thread.join();
        }
        threads.clear();
    }

    /** SIGTERM: let every command print its summary. Bounded by the pod's grace period (30 s). */
    private static void stopAll() {
        RUNNING.values().forEach(Verb::stop);
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (!RUNNING.isEmpty() && System.nanoTime() < deadline) {
            try {
                Thread.sleep(20);
            } catch (InterruptedException cut) {
                return;
            }
        }
    }
}
