package dev.gantry.clients;

/** Receives messages of one topic until it is closed, and acknowledges each that {@link Inbox} wants acknowledged. */
interface Receiver extends AutoCloseable {
    /** One delivery; {@code attempt} starts at 1, {@code bornMillis} is the producer's wall clock. */
    record Delivery(String id, byte[] body, int attempt, long bornMillis) { }

    /** Where deliveries go; called from the client's threads. */
    interface Inbox {
        /** Whether it is to be acknowledged. */
        boolean take(Delivery delivery);

        /** A call of ours failed: receive or ack. Push clients hide theirs. */
        void failed(String call, Throwable error);
    }

    /** Connects and starts to receive. */
    static Receiver open(Flags flags, Inbox inbox) throws Exception {
        boolean grpc = flags.oneOf("protocol", "grpc", "grpc", "remoting").equals("grpc");
        String mode = flags.oneOf("mode", "push", "push", "simple", "lite");
        if (!grpc && !mode.equals("push")) {
            throw new IllegalArgumentException("--mode " + mode + " exists over gRPC only");
        }
        if (!grpc) {
            return new RemotingReceiver(flags, inbox);
        }
        return switch (mode) {
            case "simple" -> new GrpcSimpleReceiver(flags, inbox);
            case "lite" -> GrpcPush.openLite(flags, inbox);
            default -> GrpcPush.open(flags, inbox);
        };
    }
}
