package dev.gantry.guard;

import java.util.concurrent.CompletableFuture;
import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * Into {@code DefaultMessagingProcessor.request}, by which a proxy asks a broker on behalf of a client. It gives the request a number of its own, and the
 * client's back when the broker has answered; when it has not, the refusal goes out under a number that no client waits for.
 */
final class AnswerWhoAsked {
    private AnswerWhoAsked() { }

    @Advice.OnMethodEnter
    static RestoreId enter(@Advice.Argument(2) RemotingCommand request) {
        return new RestoreId(request);
    }

    @Advice.OnMethodExit
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void exit(@Advice.Enter RestoreId restore, @Advice.Return(readOnly = false) CompletableFuture<RemotingCommand> answer) {
        answer = answer.whenComplete(restore);
    }
}
