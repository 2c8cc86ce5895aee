package dev.gantry.guard;

import java.net.SocketAddress;
import java.nio.channels.SocketChannel;
import org.apache.rocketmq.remoting.common.RemotingHelper;

/** In the place of {@code RemotingHelper.connect(SocketAddress)} in {@code AutoSwitchHAClient.connectMaster}, which waits for 5 s and heeds nothing meanwhile. */
public final class Briefly {
    /** In milliseconds: one segment that begins a connection may get lost, Linux sends the second one after a second. */
    private static final int PATIENCE = 1500;

    private Briefly() { }

    /**
     * Connects.
     *
     * @param master where its log is sent from
     * @return the connection, or null where there is none in time
     */
    public static SocketChannel connect(SocketAddress master) {
        return RemotingHelper.connect(master, PATIENCE);
    }
}
