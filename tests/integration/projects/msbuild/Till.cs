namespace BikeShop
{
    /// <summary>A till that adds up.</summary>
    public static class Till
    {
        /// <summary>Returns the price of so many bikes, in cents.</summary>
        public static long Total(long price, int bikes)
        {
            return checked(price * bikes);
        }
    }
}
