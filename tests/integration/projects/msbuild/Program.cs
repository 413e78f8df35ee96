using System;

namespace BikeShop
{
    public static class Program
    {
        public static void Main()
        {
            Console.WriteLine(Till.Total(49900, 3));
        }
    }
}
