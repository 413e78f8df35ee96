const fs = require("fs");
const { total } = require("./till");

const cases = { adds_up: total(49900, 3) === 149700, of_nothing_is_nothing: total(49900, 0) === 0 };
const rows = Object.entries(cases).map(
  ([name, holds]) => `<testcase classname="till" name="${name}">${holds ? "" : "<failure/>"}</testcase>`,
);
fs.mkdirSync("reports", { recursive: true });
fs.writeFileSync("reports/junit.xml", `<testsuite name="till">${rows.join("")}</testsuite>`);
process.exit(Object.values(cases).every(Boolean) ? 0 : 1);
