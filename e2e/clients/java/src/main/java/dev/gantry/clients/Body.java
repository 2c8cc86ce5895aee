package dev.gantry.clients;

import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32;

/**
 * A message body that proves itself: {@code {"run":"r","seq":7,"group":"g1","pad":"xx","sum":"89abcdef"}}, where the sum is
 * the CRC-32 of every byte before {@code ,"sum"}. The Go client writes and reads the same bytes.
 */
record Body(String run, long seq, String group, boolean intact) {
    private static final Pattern FORM = Pattern.compile(
        "(\\{\"run\":\"([^\"]*)\",\"seq\":(\\d+),\"group\":\"([^\"]*)\"(?:,\"pad\":\"x*\")?),\"sum\":\"([0-9a-f]{8})\"}");
    /** Room that a body needs around its padding; smaller sizes are not padded. */
    private static final int PAD_FRAME = ",\"pad\":\"\"".length();

    /** The bytes of one body; padded to {@code size} bytes where it is shorter. */
    static byte[] write(String run, long seq, String group, int size) {
        String head = "{\"run\":\"" + run + "\",\"seq\":" + seq + ",\"group\":\"" + group + "\"";
        int missing = size - head.length() - ",\"sum\":\"01234567\"}".length() - PAD_FRAME;
        if (missing > 0) {
            head += ",\"pad\":\"" + "x".repeat(missing) + "\"";
        }
        return (head + ",\"sum\":\"" + sum(head) + "\"}").getBytes(StandardCharsets.UTF_8);
    }

    /** Reads any bytes; what is not a body of this form, or was changed under way, comes back with {@code intact} false. */
    static Body read(byte[] bytes) {
        Matcher form = FORM.matcher(new String(bytes, StandardCharsets.UTF_8));
        if (!form.matches()) {
            return new Body("", -1, "", false);
        }
        boolean intact = sum(form.group(1)).equals(form.group(5));
        return new Body(form.group(2), Long.parseLong(form.group(3)), form.group(4), intact);
    }

    private static String sum(String text) {
        CRC32 crc = new CRC32();
        crc.update(text.getBytes(StandardCharsets.UTF_8));
        return String.format("%08x", crc.getValue());
    }
}
