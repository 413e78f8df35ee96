package shop;

/** A till that adds up. */
public final class Till {
    private Till() {}

    /** Returns the price of so many bikes, in cents. */
    public static long total(long price, int bikes) {
        return Math.multiplyExact(price, bikes);
    }

    public static void main(String[] arguments) {
        System.out.println(total(49900, 3));
    }
}
