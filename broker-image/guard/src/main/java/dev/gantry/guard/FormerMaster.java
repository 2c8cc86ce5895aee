package dev.gantry.guard;

import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.config.BrokerRole;

/**
 * Into {@code CommitLog.needHandleHA}: a message that a master took a moment before it became a slave waits for replicas as every other one does. The engine
 * asks for the role anew there, and a slave waits for nobody.
 */
final class FormerMaster {
    private FormerMaster() { }

    @Advice.OnMethodExit
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void exit(
        @Advice.Argument(0) MessageExt message,
        @Advice.FieldValue("defaultMessageStore") DefaultMessageStore store,
        @Advice.Return(readOnly = false) boolean waits
    ) {
        waits |= message.isWaitStoreMsgOK() && store.getBrokerConfig().isEnableControllerMode()
            && store.getMessageStoreConfig().getBrokerRole() == BrokerRole.SLAVE;
    }
}
