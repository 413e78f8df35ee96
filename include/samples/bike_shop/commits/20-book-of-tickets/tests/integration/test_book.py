def test_a_ticket_of_the_book_has_the_price_of_its_repair(browser):
    for repair, price in (("drivetrain", "€ 129.00"), ("puncture", "€ ")):
        ticket = browser.post("/repairs", repair=repair, name="Ada")
        assert "Repair ticket" in ticket
        assert price in ticket
