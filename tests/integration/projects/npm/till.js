/** Returns the price of so many bikes, in cents. */
exports.total = (price, bikes) => price * bikes;

if (require.main === module) console.log(exports.total(49900, 3));
