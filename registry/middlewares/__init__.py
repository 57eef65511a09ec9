"""What happens around every handler, one concern per module, all of it cheap.

Outermost first:

1. `unread` ends the connection of a request whose body nobody wanted, whoever answered it.
2. `request_id` names the request, so that everything after can be found again.
3. `access_log` measures and logs it, whatever becomes of it.
4. `errors` turns exceptions into answers, so that the log sees their status.
5. `sources` refuses what comes from where it must not, before anybody is asked who they are.
6. `authenticate` names the principal, whose permission the route's guard then checks.

`response_headers` is a signal, not a middleware: it runs when headers leave, streamed ones too.
"""
