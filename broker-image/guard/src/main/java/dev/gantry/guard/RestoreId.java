package dev.gantry.guard;

import java.util.function.BiConsumer;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** Gives a request the number back that its client knows it by, whatever became of it. Goes into the image beside the changed classes. */
public final class RestoreId implements BiConsumer<Object, Throwable> {
    private final RemotingCommand request;
    private final int id;

    /**
     * Remembers the number.
     *
     * @param request as its client sent it
     */
    public RestoreId(RemotingCommand request) {
        this.request = request;
        id = request.getOpaque();
    }

    @Override
    public void accept(Object answer, Throwable failure) {
        request.setOpaque(id);
    }
}
