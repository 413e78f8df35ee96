const fs = require("fs");

fs.mkdirSync("dist", { recursive: true });
fs.copyFileSync("till.js", "dist/till.js");
fs.writeFileSync("dist/built.json", JSON.stringify({ at: Number(process.env.SOURCE_DATE_EPOCH) }));
