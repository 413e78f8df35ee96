using System.IO;
using System.Text;

namespace BikeShop
{
    /// <summary>Tests of the till, which write their own JUnit report: no package is needed, and none fetched.</summary>
    public static class TillTests
    {
        private static readonly StringBuilder Cases = new StringBuilder();
        private static int failures;

        public static int Main(string[] arguments)
        {
            Check("adds_up", Till.Total(49900, 3) == 149700);
            Check("of_nothing_is_nothing", Till.Total(49900, 0) == 0);
            string suite = "<testsuite name=\"BikeShop.TillTests\">" + Cases + "</testsuite>";
            File.WriteAllText(arguments[0], "<?xml version=\"1.0\"?>" + suite);
            return failures == 0 ? 0 : 1;
        }

        private static void Check(string name, bool holds)
        {
            Cases.Append("<testcase classname=\"BikeShop.TillTests\" name=\"" + name + "\" time=\"0.001\">");
            if (!holds)
            {
                failures++;
                Cases.Append("<failure message=\"does not hold\"/>");
            }
            Cases.Append("</testcase>");
        }
    }
}
