package dev.gantry.clients;

import java.util.function.Function;

/** Sends one message at a time and returns when the broker has acknowledged it. Safe to share between threads. */
interface Sender extends AutoCloseable {
    /** What becomes of a transaction's half message. */
    enum Fate { COMMIT, ROLL_BACK, LEAVE_TO_CHECKER }

    /** Answers the broker's question about a half message: true commits, false rolls back, null is "ask again later". */
    interface Checker extends Function<byte[], Boolean> { }

    /** Returns the message id. An exception means that the outcome is unknown, not that nothing was stored. */
    String send(byte[] body, String group, String key, Fate fate) throws Exception;

    /** Connects. {@code type} is normal, fifo, ordered, delay, transaction, priority or lite. */
    static Sender open(Flags flags, String type, Checker checker) throws Exception {
        boolean grpc = flags.oneOf("protocol", "grpc", "grpc", "remoting").equals("grpc");
        return grpc ? new GrpcSender(flags, type, checker) : new RemotingSender(flags, type);
    }
}
