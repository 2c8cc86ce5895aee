package dev.gantry.guard;

import org.apache.rocketmq.common.ServiceThread;

/**
 * In the place of {@code waitForRunning} in {@code AutoSwitchHAClient.closeMasterAndWait}: a replica whose connection was closed tries again soon, not after
 * 5 s. A master closes it that hears of its own election after the replica did.
 */
public final class Soon {
    /** In milliseconds: a role changes in some tens. */
    private static final long PATIENCE = 200;

    private Soon() { }

    /**
     * Waits a moment.
     *
     * @param replica the replica's side of the connection
     * @param engine what the engine waits, in milliseconds
     */
    public static void pause(ServiceThread replica, long engine) {
        try {
            Thread.sleep(Math.min(PATIENCE, engine));
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }
}
