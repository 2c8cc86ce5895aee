package dev.gantry.guard;

import org.apache.rocketmq.store.DispatchRequest;

/**
 * In the place of {@code DispatchRequest.getCommitLogOffset()} in {@code CommitLog.recoverNormally}, which makes visible again what begins after the given
 * offset, while that is where the first message begins that was not made visible yet.
 */
public final class NotBefore {
    private NotBefore() { }

    /**
     * What is greater than an offset where a message begins at it or after it.
     *
     * @param message the message
     * @return one more than where it begins, in bytes of the log
     */
    public static long offset(DispatchRequest message) {
        return message.getCommitLogOffset() + 1;
    }
}
