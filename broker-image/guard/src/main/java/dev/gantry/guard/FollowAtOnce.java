package dev.gantry.guard;

import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAClient;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAService;

/** Into {@code AutoSwitchHAService.changeToSlave}, which the controllers' news of an election leads to: see {@link Elected}. */
final class FollowAtOnce {
    private FollowAtOnce() { }

    @Advice.OnMethodExit
    @SuppressWarnings("unused")
    static void exit(
        @Advice.This AutoSwitchHAService service,
        @Advice.Argument(0) String master,
        @Advice.FieldValue("haClient") AutoSwitchHAClient replica,
        @Advice.Return boolean changed
    ) {
        if (changed && master != null) {
            Elected.follow(replica, master, service.getDefaultMessageStore().getMessageStoreConfig().getHaListenPort());
        }
    }
}
