package dev.gantry.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class BodyTest {
    @Test
    void a_body_reads_back_as_it_was_written() {
        assertEquals(new Body("r1", 42, "g2", true), Body.read(Body.write("r1", 42, "g2", 0)));
    }

    @Test
    void the_bytes_are_those_that_the_go_client_writes() {
        assertEquals("{\"run\":\"r1\",\"seq\":42,\"group\":\"g2\",\"sum\":\"8cb9ea9e\"}",
            new String(Body.write("r1", 42, "g2", 0), StandardCharsets.UTF_8));
        assertEquals("{\"run\":\"r1\",\"seq\":42,\"group\":\"g2\",\"pad\":\"xxx\",\"sum\":\"6335522c\"}",
            new String(Body.write("r1", 42, "g2", 63), StandardCharsets.UTF_8));
    }

    @Test
    void a_padded_body_has_exactly_the_size_asked_for() {
        byte[] body = Body.write("r1", 1, "", 1024);
        assertEquals(1024, body.length);
        assertTrue(Body.read(body).intact());
    }

    @Test
    void any_changed_byte_is_noticed() {
        byte[] body = Body.write("r1", 42, "g2", 80);
        for (int i = 0; i < body.length; i++) {
            byte[] changed = body.clone();
            changed[i] ^= 1;
            assertFalse(Body.read(changed).intact(), "byte " + i);
        }
    }

    @Test
    void bytes_that_are_no_body_are_not_intact() {
        assertFalse(Body.read(new byte[0]).intact());
        assertFalse(Body.read("hello".getBytes(StandardCharsets.UTF_8)).intact());
    }
}
