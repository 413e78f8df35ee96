package shop;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** Tests of the till, which write their own JUnit report: no library is needed, and none fetched. */
public final class TillTest {
    private static final StringBuilder CASES = new StringBuilder();
    private static int failures;

    private TillTest() {}

    public static void main(String[] arguments) throws IOException {
        check("adds_up", Till.total(49900, 3) == 149700);
        check("of_nothing_is_nothing", Till.total(49900, 0) == 0);
        String suite = "<testsuite name=\"shop.TillTest\">" + CASES + "</testsuite>";
        Files.writeString(Path.of(arguments[0]), "<?xml version=\"1.0\"?>" + suite);
        System.exit(failures == 0 ? 0 : 1);
    }

    private static void check(String name, boolean holds) {
        CASES.append("<testcase classname=\"shop.TillTest\" name=\"" + name + "\" time=\"0.001\">");
        if (!holds) {
            failures++;
            CASES.append("<failure message=\"does not hold\"/>");
        }
        CASES.append("</testcase>");
    }
}
